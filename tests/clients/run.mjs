// bearerd from outside, between other people's clients and a TLS API: each client does its ordinary things through
// `bearerd exec`, in each of the ways in which an app can be pointed at a proxy. What a client got, it says itself;
// what arrived, the API says. The first thing that is wrong ends the rig.
//
// `node run.mjs [CLIENT…]`. BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  bearerd, certificates, check, eventually, failures, file, folder, freePorts, serve, tell,
} from '../oidc-provider/rig.mjs';
import { BYTES, CLIENTS, EXPECTED, MODES, REQUESTS, isMeant } from './cases.mjs';
import * as page from './page.mjs';
import { python } from './python.mjs';

const BINARY = process.env.BEARERD ?? fileURLToPath(new URL('../../target/debug/bearerd', import.meta.url));
const APPS = fileURLToPath(new URL('apps', import.meta.url));
const PATIENCE = 120;
/** Where bearerd keeps its authority. */
const AUTHORITY = join(folder, 'ca');

/** What the API reports. */
const arrived = [];

class Wrong extends Error {}

/** The first tool that is not there. */
async function missing(tools) {
  for (const tool of tools) {
    const found = await promisify(execFile)('sh', ['-c', `command -v ${tool}`]).catch(() => undefined);
    if (found === undefined) return `${tool} is not installed`;
  }
  return undefined;
}

/** `http` is what the route speaks, `listen` what else is said. */
function configuration(name, { port, caFile, http = 'auto', listen = '' }) {
  return file(name, `${listen}
tokens:
  api:
    token_url: https://localhost:${port}/token
    client_id: app
    client_secret: {file: ${file('secret', 'secret of the rig')}}
    tls: {ca_file: ${caFile}}
routes:
  - name: api
    upstream: https://api.example.com
    connect_to: 127.0.0.1:${port}       # no lookup leads there
    token: api
    http: ${http}
    intercept: true
    tls: {ca_file: ${caFile}}
intercept: {ca_dir: ${AUTHORITY}}
`);
}

const modesOf = (client) => client.modes ?? MODES;
const isCase = (client, mode, name) => isMeant(mode, name) && (client.only?.[name] ?? MODES).includes(mode);

/** By which HTTP bearerd asks the API, so that both have all clients' requests. */
const UPSTREAM = { base: 2, http: 1, https: 2 };

/** One client in one mode: all of its cases in one process, within one `exec`. */
async function run(client, mode, cases, { configs, tools }) {
  const prefix = `/of/${client.name}-${mode}`;
  const { PATH, HOME, JAVA_HOME } = process.env;
  const env = {
    PATH,
    HOME,
    ...(JAVA_HOME && { JAVA_HOME }),
    ...client.env,
    MODE: mode,
    BASE: { base: '', http: 'http://api.example.com', https: 'https://api.example.com' }[mode],
    PREFIX: prefix,
    CASES: cases.join(','),
    PYTHONDONTWRITEBYTECODE: '1',
    UPLOAD: join(folder, 'upload'),
    STORE: join(folder, `${client.name}.truststore`),
  };
  const [program, ...args] = client.run.map((word) => (/^app[_.]/i.test(word) ? join(APPS, word) : word));
  const command = [tools[program] ?? program, ...args];
  // The base URL is what `exec` says it is.
  const before = mode === 'https' && client.trust ? `${client.trust};` : '';
  const shell = ['sh', '-ec', `export BASE="\${BASE:-$BEARERD_URL}"; ${before} exec "$@"`, 'sh', ...command];
  const running = bearerd(BINARY, ['exec', '--config', configs[UPSTREAM[mode]], '--', ...shell], env);
  let how;
  running.ended.then((code) => { how = code; });
  const deadline = () => { throw new Wrong(`${client.name}, ${mode}: still running; it said:\n${running.output()}`); };
  await eventually('the client ends', PATIENCE, () => how !== undefined).catch(deadline);

  const said = new Map(running.output().split('\n').filter(Boolean).map((line) => {
    const [name, ...rest] = line.split('\t');
    return [name, rest.join(' ').trim()];
  }));
  for (const name of cases) {
    const expected = EXPECTED[name](prefix);
    if (said.get(name) !== expected) {
      const got = said.has(name) ? said.get(name) : `nothing; it ended with ${how} and said:\n${running.output()}`;
      throw new Wrong(`${client.name}, ${mode}, ${name}: expected ${expected}, got ${got}`);
    }
  }
  if (how !== 0) throw new Wrong(`${client.name}, ${mode}: it ended with ${how}: ${running.output()}`);

  const isOfThis = ({ url }) => url.startsWith(prefix) || url.startsWith('/echo.Echo/');
  const due = cases.reduce((sum, name) => sum + (REQUESTS[name] ?? 1), 0);
  const here = () => arrived.filter(isOfThis);
  await eventually('all requests are reported', 10, () => here().length >= due).catch(() => {});
  const seen = here();
  arrived.length = 0;
  const wrong = (what, bad) => {
    if (bad) throw new Wrong(`${client.name}, ${mode}: ${what}: ${JSON.stringify(bad)}`);
  };
  wrong('a request without our bearer alone', seen.find(({ credentials }) => credentials !== 'ours'));
  wrong('a credential of the app arrived', seen.find(({ fromApp }) => fromApp.length > 0));
  // A WebSocket has a connection of its own, which speaks HTTP/1.1.
  const due1 = ({ url }) => UPSTREAM[mode] === 1 || url.endsWith('/socket');
  wrong('it came by another HTTP', seen.find((request) => request.version !== (due1(request) ? '1.1' : '2.0')));
  wrong('it is not the host that the API has', seen.find(({ host }) => host !== 'api.example.com'));
  const hop = ({ headers }) => headers['proxy-connection'] || headers['http2-settings'] || headers['keep-alive'];
  wrong('what belongs to one hop arrived', seen.find(hop));
  const isOwn = ({ headers }) => headers['x-app'] === 'mine';
  wrong(`the app's own header did not arrive`, cases.includes('own-credential') && !seen.some(isOwn));
  const lines = seen.map(({ method, url }) => `${method} ${url}`);
  wrong(`${seen.length} requests arrived and not ${due}`, seen.length !== due && lines);
  return due;
}

/** A row for each case, a column for each client; a letter for each mode that passed, blank where it is not its own. */
function table(cells, clients) {
  const names = Object.keys(EXPECTED).filter((name) => clients.some((client) => client.cases.includes(name)));
  const width = Math.max(...names.map((name) => name.length));
  const head = clients.map(({ name }) => name.padEnd(Math.max(name.length, MODES.length))).join('  ');
  console.log(`\n${' '.repeat(width)}  ${head}`);
  for (const name of names) {
    const row = clients.map((client) => {
      const cell = MODES.map((mode) => cells.get(`${client.name} ${mode} ${name}`) ?? ' ').join('');
      return cell.padEnd(Math.max(client.name.length, MODES.length));
    });
    console.log(`${name.padEnd(width)}  ${row.join('  ').trimEnd()}`);
  }
  console.log('b: base URL, h: HTTP_PROXY, s: HTTPS_PROXY with interception\n');
}

/** Whether somebody takes connections there. */
function listens(port) {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1', () => done(true)).on('error', () => done(false));
    socket.on('connect', () => socket.destroy());
  });
}

/** docs/clients.md, line by line, with one `bearerd run`. */
async function snippets(api, caFile, venv) {
  const [port] = await freePorts(1);
  const socket = join(folder, 'app.sock');
  const listen = `listen: ["localhost:${port}", "unix:${socket}"]\nadmin: off`;
  const config = configuration('page.yaml', { port: api.port, caFile, listen });
  const running = bearerd(BINARY, ['run', '--config', config], { PATH: process.env.PATH });
  await eventually('bearerd listens', 20, () => listens(port));
  const absent = (program) => (program === 'python' ? venv.missing : missing([program]));
  const seen = async () => {
    // What was reported last may still be on its way.
    await eventually('a request is reported', 5, () => arrived.length > 0).catch(() => {});
    return arrived.splice(0);
  };
  const place = { port, ca: AUTHORITY, socket, python: venv.program, absent, arrived: seen };
  for await (const { line, skipped, problem } of page.run(place)) {
    if (skipped) console.log(`      skipped: ${line} (${skipped})`);
    else check(`docs/clients.md: ${line.split('\n').at(-1)}`, problem === undefined, problem);
    if (problem !== undefined) break;
  }
  running.kill('SIGTERM');
  check('SIGTERM ends it with 0', (await running.ended) === 0, running.output());
}

async function story() {
  const [caFile, tls] = await certificates('DNS:api.example.com,DNS:localhost');
  writeFileSync(join(folder, 'upload'), BYTES);
  const api = await serve('../clients/api.mjs', { ...tls, upload: join(folder, 'upload') }, arrived);
  const upstream = { port: api.port, caFile };
  const configs = {
    1: configuration('http1.yaml', { ...upstream, http: 'http1' }),
    2: configuration('auto.yaml', upstream),
  };
  const venv = await python();
  const tools = { python: venv.program };

  const asked = process.argv.slice(2);
  const clients = CLIENTS.filter(({ name }) => asked.length === 0 || asked.includes(name));
  const cells = new Map();
  const shown = [];
  try {
    for (const client of clients) {
      const why = client.run[0] === 'python' ? venv.missing : await missing(client.tools ?? []);
      if (why) {
        console.log(`      skipped: ${client.name} (${why})`);
        continue;
      }
      shown.push(client);
      for (const mode of modesOf(client)) {
        const cases = client.cases.filter((name) => isCase(client, mode, name));
        for (const name of cases) cells.set(`${client.name} ${mode} ${name}`, '?');
        const began = Date.now();
        const requests = await run(client, mode, cases, { configs, tools });
        for (const name of cases) cells.set(`${client.name} ${mode} ${name}`, mode === 'https' ? 's' : mode[0]);
        const seconds = ((Date.now() - began) / 1000).toFixed(1);
        check(`${client.name}, ${mode}: ${cases.length} cases, ${requests} requests, each with our bearer`, true);
        if (process.env.TIMES) console.log(`      in ${seconds} s`);
      }
    }
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    check('every client gets what it would get without', false, error.message);
  }
  table(cells, shown);
  if (failures.length === 0 && asked.length === 0) await snippets(api, caFile, venv);
}

await tell(story, () => console.log(failures.join('\n')));
