// Makes functions.txt: which functions of the released binary run, told by callgrind while a provider and an API answer.
//
//   node deploy/order/record.mjs [BINARY]
//
// BINARY is static, has its symbols, and was built with rustix/use-libc-auxv; without it one is built, which takes minutes.
// Needs valgrind and openssl. The list depends on what the optimiser made of the code, hence a release's build.
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';
import http2 from 'node:http2';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bearerd, certificates, eventually, file, folder, freePorts } from '../../tests/oidc-provider/rig.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));

/** Enough of them to tell what each takes from what one of them did. */
const REQUESTS = 50;
const LARGE = 'x'.repeat(1 << 20);

/**
 * What callgrind cannot see: it knows no processor with AVX-512, hides the kernel's vDSO, and names what stands below main()
 * in a way of its own.
 */
const UNSEEN = new RegExp([
  '^aws_lc_(curve25519_x25519(base)?|mlkem_\\w+_avx2_asm|sha(256|512)_block_data_order_(hw|avx))$',
  '^__(mem|str|rawmem)\\w+_(evex|avx512)_?(unaligned|unaligned_erms|movbe)?$',
  '^(_start|__libc_start_main|__libc_start_call_main|_dl_new_object|_dl_setup_hash)$',
].join('|'));

/** The same, and so large that it would push apart what stands behind it: a megabyte, of which some pages are used. */
const LARGE_UNSEEN = /^aws_lc_aes_gcm_\w+_avx512$/;

/** What a release runs at its start instead of what the feature below puts there. */
const RELEASED = ['init_auxv', 'init_auxv_impl', 'pr_get_auxv_dynamic', 'init_from_aux_iter::<rustix::backend::param::auxv::AuxPointer>',
  'check_elf_base'].map((name) => `rustix::backend::param::auxv::${name}`).concat('<rustix::backend::vdso::Vdso>::check_sym');

function built() {
  console.error('bearerd, with its symbols (some minutes):');
  const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
  // Under valgrind rustix finds no vDSO, and ends; with this feature it looks for none, and each look at a clock is a system call.
  const env = {
    ...process.env,
    CARGO_PROFILE_RELEASE_STRIP: 'none',
    CARGO_TARGET_DIR: join(target, 'order'),
    FEATURES: 'rustix/use-libc-auxv',
    BEARERD: '',
  };
  return execFileSync(join(root, 'deploy/build'), ['binary'], { env, stdio: ['ignore', 'pipe', 'inherit'] }).toString().trim();
}

/** Symbols with their readable names, as the linker reads them. */
function names(symbols) {
  const found = execFileSync(join(here, 'names'), { input: symbols.join('\n'), maxBuffer: 1 << 28 }).toString();
  return new Map(found.trimEnd().split('\n').map((line) => line.split('\t').reverse()));
}

/** A provider and an API in one, over TLS, in HTTP/2 for who offers it; and the same without TLS. */
async function provider({ key, cert }) {
  const claims = { exp: Math.floor(Date.now() / 1000) + 3600, scope: 'x'.repeat(500) };
  const token = [{ alg: 'RS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'));
  const grant = JSON.stringify({ access_token: [...token, 'c2lnbmF0dXJl'].join('.'), token_type: 'Bearer', expires_in: 3600 });
  const reply = (asked, answer) => {
    asked.resume().on('end', () => {
      const body = { '/token': grant, '/large': LARGE }[asked.url] ?? '{"ok": true}';
      const end = () => answer.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body);
      // Late enough for a request to wait for it.
      if (asked.url === '/token') setTimeout(end, 500);
      else end();
    });
  };
  const servers = [http2.createSecureServer({ key, cert, allowHTTP1: true }, reply), createServer(reply)];
  return Promise.all(servers.map(async (server) => {
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return server.address().port;
  }));
}

const client = { client_id: 'somebody', client_secret: { file: file('secret', 'a secret') } };

/** One route, and authorities that are named. */
const small = (http, { ca, port }) => ({
  tokens: { api: { token_url: `https://localhost:${port}/token`, ...client, tls: { ca_file: ca } } },
  routes: [{ upstream: `https://localhost:${port}`, http, tls: { ca_file: ca } }],
});

/** Another one: the system's roots, a provider nearby, an address that is written, matches. */
const larger = ({ ca, port, plain }) => {
  const route = {
    upstream: `https://api.example.test:${port}`,
    connect_to: `127.0.0.1:${port}`,
    tls: { ca_file: ca },
    http: 'http1',
  };
  const api = { token_url: `http://127.0.0.1:${plain}/token`, ...client, auth: 'client_secret_post', scope: 'read' };
  const orders = { name: 'orders', match: { path: '/orders' }, ...route, timeouts: { headers: '30s' } };
  return { tokens: { api }, routes: [orders, { name: 'rest', ...route }] };
};

/** A run of bearerd under callgrind with a load, and the way to its end: how often each symbol was called. */
async function calls(binary, { name, ...plan }, load) {
  const [listen, admin] = await freePorts(2);
  const more = { listen: [`127.0.0.1:${listen}`], admin: `127.0.0.1:${admin}` };
  const config = file('config.json', JSON.stringify({ ...more, ...plan }));
  const out = join(folder, `callgrind-${name}`);
  const options = ['--tool=callgrind', '--demangle=no', `--callgrind-out-file=${out}`];
  const command = [binary, 'run', '--config', relative(process.cwd(), config)];
  const running = bearerd('valgrind', [...options, ...command], process.env);
  const ends = running.ended.then(() => { throw new Error(`bearerd has ended: ${running.output()}`); });
  await Promise.race([ends, (async () => {
    await eventually('the port', 60, () => running.output().includes('"event":"listening"'));
    await load(listen, admin);
    // Longer than after its start until it looks for what changed in its configuration meanwhile.
    await sleep(500);
  })()]);
  ends.catch(() => {});
  // Now, since what its end takes is nothing that rests.
  await promisify(execFile)('callgrind_control', ['--dump', `${running.pid}`]);
  running.kill('SIGTERM');
  await running.ended;

  // The format: https://valgrind.org/docs/manual/cl-format.html. Names are spelt once, and then have a number.
  const spelt = new Map();
  const counted = new Map();
  let called;
  for (const line of readFileSync(`${out}.1`, 'utf8').split('\n')) {
    const [, kind, number, name] = line.match(/^(c?fn)=\((\d+)\)(?: (.*))?$/) ?? [];
    if (name) spelt.set(number, name.replace(/'\d+$/, ''));
    if (kind === 'fn') counted.set(spelt.get(number), counted.get(spelt.get(number)) ?? 0);
    if (kind === 'cfn') called = spelt.get(number);
    if (line.startsWith('calls=')) counted.set(called, (counted.get(called) ?? 0) + Number(line.slice(6).split(' ')[0]));
  }
  return counted;
}

async function ask(port, method, path, body, agent) {
  const asked = request({ port, method, path, agent }).end(body);
  const [answer] = await once(asked, 'response');
  answer.resume();
  await once(answer, 'end');
  if (answer.statusCode !== 200) throw new Error(`${method} ${path}: ${answer.statusCode}`);
}

async function askHttp2(port, path) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  for (let i = 0; i < 5; i += 1) {
    const asked = session.request({ ':path': path, ':method': 'POST' });
    asked.end('x');
    await once(asked.resume(), 'close');
  }
  session.close();
}

const [binary = built()] = process.argv.slice(2);
const [ca, server] = await certificates('DNS:localhost,DNS:api.example.test');
const [port, plain] = await provider(server);
const around = { ca, port, plain };
const agent = new Agent({ keepAlive: true, maxSockets: 2 });
const quiet = async (listen) => {
  for (const [method, body] of [['GET'], ['POST', 'x'.repeat(1000)]]) {
    for (let i = 0; i < REQUESTS; i += 1) {
      // Two at a time, since the second connection resumes the first one's session.
      await Promise.all([ask(listen, method, '/orders/7', body, agent), ask(listen, method, '/', body, agent)]);
    }
  }
  await sleep(500);
  agent.destroy();
};
const busy = async (listen, admin) => {
  for (let i = 0; i < 5; i += 1) await ask(listen, 'POST', '/large', LARGE, agent);
  await askHttp2(listen, '/');
  await askHttp2(listen, '/large');
  for (const path of ['/metrics', '/readyz', '/livez', '/status']) await ask(admin, 'GET', path, undefined, agent);
};

const [one, other] = [
  await calls(binary, { name: 'small', ...small('http1', around) }, quiet),
  await calls(binary, { name: 'larger', ...larger(around) }, quiet),
];
const rest = new Map([...other, ...one].map(([symbol]) => [symbol, Math.max(one.get(symbol) ?? 0, other.get(symbol) ?? 0)]));
const work = [await calls(binary, { name: 'http2', ...small('http2', around) }, busy)];
work.push(await calls(binary, { name: 'auto', ...small('auto', around) }, async (...ports) => { await quiet(...ports); await busy(...ports); }));

const { stdout } = await promisify(execFile)('nm', ['--format=just-symbols', binary], { maxBuffer: 1 << 28 });
const readable = names(stdout.trimEnd().split('\n'));
const listed = new Set();
const section = (title, symbols, more = []) => {
  const known = [...symbols].filter((symbol) => readable.has(symbol)).map((symbol) => readable.get(symbol));
  const fresh = new Set([...known, ...more]);
  const lines = [...fresh].filter((name) => !listed.has(name)).sort();
  for (const name of lines) listed.add(name);
  return [`# ${title}`, ...lines];
};
const often = [...rest].filter(([, count]) => count >= 2 * REQUESTS).map(([symbol]) => symbol);
if (often.length === 0 || readable.size < often.length) throw new Error(`${binary} has no symbols`);
const matching = (pattern) => [...readable].filter(([, name]) => pattern.test(name)).map(([symbol]) => symbol);
const lines = [
  '# What runs, first things first. Made by record.mjs; read by cc.',
  ...section('As often as there were requests, or more', often),
  ...section('From the start to the first answers', rest.keys()),
  ...section('What callgrind does not see', matching(UNSEEN), RELEASED),
  ...section('Other requests', work.flatMap((counted) => [...counted.keys()])),
  ...section('What callgrind does not see, and is large', matching(LARGE_UNSEEN)),
];
writeFileSync(join(here, 'functions.txt'), `${lines.join('\n')}\n`);
console.log(`${listed.size} functions`);
process.exit(0);
