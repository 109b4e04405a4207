// What the stories need around them: certificates, child processes, free ports, curl, and a count of what held.
// Everything that is started or written here is gone when the process ends, however it ends (short of SIGKILL).
import { execFile, fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

export const folder = mkdtempSync(join(tmpdir(), 'bearerd-rig-'));
const children = new Map();

process.on('exit', () => {
  for (const [child, end] of children) end(child);
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

/** Has a child process end with this one; `end` is for one that needs more than a signal. */
export function track(child, end = () => child.kill('SIGKILL')) {
  children.set(child, end);
  child.on('exit', () => children.delete(child));
  return child;
}

let passed = 0;
/** What did not hold. */
export const failures = [];

/** Counts and prints one thing that must hold. */
export function check(what, good, detail) {
  if (good) passed += 1;
  else failures.push(`${what}: ${detail}`);
  console.log(good ? `ok    ${what}` : `FAIL  ${what}: ${detail}`);
}

/** Runs a story to its end, prints the count as the last line, and ends the process accordingly. */
export async function tell(story, afterFailure = () => {}) {
  try {
    await story();
  } catch (error) {
    check('the story came to its end', false, error.stack);
  }
  if (failures.length > 0) afterFailure();
  console.log(`${passed} passed, ${failures.length} failed`);
  process.exit(failures.length === 0 ? 0 : 1);
}

/** Writes a file that only this test reads, and returns its path. */
export function file(name, content) {
  const path = join(folder, name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

/** Puts other content in a file's place in one step, as a careful deployment does. */
export function replace(path, content) {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Polls until `probe` gives something truthy; `what` names it in the error. */
export async function eventually(what, seconds, probe) {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await sleep(50)) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`${what}: not within ${seconds} s`);
}

const openssl = (...args) => promisify(execFile)('openssl', args, { cwd: folder });
const newKey = (name) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];

/** A CA, and a server certificate of it for each list of subject alternative names. */
export async function certificates(...names) {
  await openssl('req', ...newKey('ca'), '-subj', '/CN=ca', '-x509', '-days', '2', '-out', 'ca.pem');
  const servers = await Promise.all(names.map((san, i) => certificate(`server-${i}`, san, 'serverAuth')));
  return [join(folder, 'ca.pem'), ...servers];
}

/** A further certificate of the CA, for `serverAuth` or `clientAuth`; each has a key of its own. */
export async function certificate(name, san, usage) {
  file(`${name}.ext`, `subjectAltName=${san}\nextendedKeyUsage=${usage}\n`);
  await openssl('req', ...newKey(name), '-subj', `/CN=${name}`, '-out', `${name}.csr`);
  const serial = `0x${randomBytes(8).toString('hex')}`;
  await openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-set_serial', serial,
    '-days', '2', '-extfile', `${name}.ext`, '-out', `${name}.pem`);
  const read = (suffix) => readFileSync(join(folder, `${name}.${suffix}`), 'utf8');
  return { cert: read('pem'), key: read('key') };
}

/** Ports that were free a moment ago. bearerd cannot be asked for the ones that it chose, so it is told. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

/** Starts provider.mjs or api.mjs, whose reports go to `events`; returns where it listens and how to talk to it. */
export async function serve(script, config, events, env = {}) {
  const child = track(fork(new URL(script, import.meta.url), [JSON.stringify(config)], {
    env: { ...process.env, ...env },
    silent: true,
  }));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  const ended = once(child, 'close');
  const listening = await new Promise((listens, failed) => {
    ended.then(() => failed(new Error(`${script} ended: ${said}`)));
    child.on('message', (message) => (message.listening ? listens(message) : events.push(message)));
  });
  return {
    port: listening.listening,
    mtlsPort: listening.mtls,
    send: (message) => child.send(message),
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Starts bearerd; `output()` is all that it has said on either stream, `ended` becomes its exit code or signal. */
export function bearerd(binary, args, env) {
  const child = track(spawn(binary, args, { env, stdio: ['ignore', 'pipe', 'pipe'] }));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  const ended = new Promise((done) => {
    child.once('error', (error) => done(error.message));
    child.once('close', (code, signal) => done(code ?? signal));
  });
  return { pid: child.pid, output: () => said, kill: (signal) => child.kill(signal), ended };
}

/** Runs curl, and returns its exit code and output; `-q` and the bare environment keep the user's own set-up out. */
export function curl(...args) {
  return new Promise((done) => {
    const options = { env: { PATH: process.env.PATH }, maxBuffer: 1 << 26 };
    track(execFile('curl', ['-q', '-sS', '--max-time', '5', ...args], options, (error, stdout, stderr) => {
      done({ code: error?.code ?? 0, stdout, stderr });
    }));
  });
}
