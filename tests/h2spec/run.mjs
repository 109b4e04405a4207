// bearerd's HTTP/2 towards the app against h2spec, the conformance test of HTTP/2, in clear and over TLS. Every case has
// to pass but for those in KNOWN, each with its reason; and one of those that passes after all has to leave the list.
//
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bearerd, certificates, check, eventually, file, folder, freePorts, tell } from '../oidc-provider/rig.mjs';
import { KNOWN } from './known.mjs';

const BINARY = process.env.BEARERD ?? fileURLToPath(new URL('../../target/debug/bearerd', import.meta.url));
// The last version that the Go module proxy has: what came after it has no version that a module could have.
const VERSION = 'v2.2.1+incompatible';
const BIN = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'bearerd-rigs', `h2spec-${VERSION}`);
// What has to happen happens within a moment; what must not is waited for as long.
const PATIENCE = 2;

const run = promisify(execFile);

/** Builds h2spec, unless an earlier run did. */
async function built() {
  const program = join(BIN, 'h2spec');
  if (!existsSync(program)) {
    const env = { ...process.env, GOBIN: BIN, GOFLAGS: '-mod=mod' };
    await run('go', ['install', `github.com/summerwind/h2spec/cmd/h2spec@${VERSION}`], { env });
  }
  return program;
}

/** An API that takes whatever it is asked, and has enough to say that a window can run out. */
async function api() {
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => response.end('x'.repeat(64)));
    request.on('error', () => {});
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return server;
}

const entities = { '&#34;': '"', '&quot;': '"', '&#39;': "'", '&apos;': "'", '&lt;': '<', '&gt;': '>', '&#xA;': ' ', '&amp;': '&' };
const decoded = (text) => text.replace(/&(#34|quot|#39|apos|lt|gt|#xA|amp);/g, (entity) => entities[entity]);

/** The cases of a JUnit report, which h2spec writes without a line break or an attribute of another kind. */
function cases(report) {
  const found = [...report.matchAll(/<testcase package="([^"]*)" classname="([^"]*)"[^>]*?(\/>|>([\s\S]*?)<\/testcase>)/g)];
  return found.map(([, section, title, , body = '']) => ({
    name: `${section}: ${decoded(title)}`,
    failed: /<(failure|error)/.test(body),
    said: decoded(body.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ')).trim(),
  }));
}

async function story(program) {
  const upstream = await api();
  const [, identity] = await certificates('IP:127.0.0.1,DNS:localhost');
  const [plain, secure] = await freePorts(2);
  const tls = { cert_file: file('cert.pem', identity.cert), key_file: file('key.pem', identity.key) };
  const config = file('bearerd.json', JSON.stringify({
    admin: 'off',
    listen: [
      { name: 'plain', address: `127.0.0.1:${plain}` },
      { name: 'tls', address: `127.0.0.1:${secure}`, tls },
    ],
    routes: [{ name: 'api', upstream: `http://127.0.0.1:${upstream.address().port}`, token: 'none' }],
  }));
  const running = bearerd(BINARY, ['run', '--config', config], { PATH: process.env.PATH });
  let ended;
  running.ended.then((code) => { ended = code; });
  await eventually('bearerd listens', 20, () => {
    if (ended !== undefined) throw new Error(`bearerd ended (${ended}): ${running.output()}`);
    return running.output().includes('tls listens on');
  });
  for (const [how, port, ...more] of [['in clear', plain], ['over TLS', secure, '-t', '-k']]) {
    const report = join(folder, `${port}.xml`);
    const args = ['-p', `${port}`, '-o', `${PATIENCE}`, '-j', report, '-S', ...more];
    // It fails when a case does; the report says which.
    const { stdout = '', stderr = '' } = await run(program, args, { maxBuffer: 1 << 26 }).catch((error) => error);
    if (!existsSync(report)) throw new Error(`h2spec wrote no report: ${stdout}${stderr}`);
    const all = cases(readFileSync(report, 'utf8'));
    check(`${how}: h2spec ran its cases`, all.length > 140, `${all.length}`);
    const failed = all.filter((one) => one.failed);
    const unknown = failed.filter((one) => !KNOWN[how].has(one.name));
    check(`${how}: what fails is known`, unknown.length === 0, unknown.map((one) => `${one.name} (${one.said})`).join('\n      '));
    const healed = [...KNOWN[how].keys()].filter((name) => !failed.some((one) => one.name === name));
    check(`${how}: what is known fails`, healed.length === 0, healed.join(' · '));
    console.log(`      ${all.length} cases, ${failed.length} of which are known to fail`);
  }
  check('bearerd lives', ended === undefined, ended);
  check('and did not panic', !/panick/.test(running.output()), running.output());
  upstream.close();
}

if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}
let program;
try {
  program = await built();
} catch (error) {
  console.log(`skipped: h2spec cannot be had (${error.message.split('\n')[0]})`);
  process.exit(0);
}
await tell(() => story(program));
