// bearerd in front of other people's servers: nginx, which ends its connections again and again while requests are on
// their way, and gRPC's own server. What arrived, the servers say.
//
// `node run.mjs [nginx|grpc]`. BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { createServer } from 'node:https';
import { fileURLToPath } from 'node:url';
import { listens, unpacked } from '../decoders/servers.mjs';
import {
  bearerd, certificates, check, eventually, file, freePorts, tell, track,
} from '../oidc-provider/rig.mjs';
import { python } from '../clients/python.mjs';
import { EACH, start } from './nginx.mjs';

const BINARY = process.env.BEARERD ?? fileURLToPath(new URL('../../target/debug/bearerd', import.meta.url));
const GETS = 20_000;
const POSTS = 5_000;
const AT_ONCE = 64;

const place = (name) => fileURLToPath(new URL(name, import.meta.url));
const none = (what, bad) => {
  check(what, bad.length === 0, `not so ${bad.length} times: ${JSON.stringify(bad.slice(0, 3))}`);
};

/** A token endpoint that calls its tokens `token-1`, `token-2` and so on. */
async function provider({ cert, key }) {
  const issued = [];
  const server = createServer({ cert, key }, (asked, response) => {
    asked.resume().on('end', () => {
      issued.push(`token-${issued.length + 1}`);
      const grant = { access_token: issued.at(-1), token_type: 'Bearer', expires_in: 3600 };
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(grant));
    });
  }).listen(0, '127.0.0.1');
  server.unref();
  await once(server, 'listening');
  return { url: `https://localhost:${server.address().port}/token`, issued };
}

function configuration(name, { url }, port, caFile, more = '') {
  return file(`${name}.yaml`, `${more}
tokens:
  api:
    token_url: ${url}
    client_id: app
    client_secret: {file: ${file('secret', 'secret of the rig')}}
    tls: {ca_file: ${caFile}}
routes:
  - name: ${name}
    upstream: https://localhost:${port}
    connect_to: 127.0.0.1:${port}
    token: api
    tls: {ca_file: ${caFile}}
${name.startsWith('http1') ? '    http: http1\n' : ''}`);
}

/** Sends all of them, so many at a time; gives what was not answered as it should be. */
async function load(port) {
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const bad = [];
  let next = 0;
  const one = (row) => new Promise((done) => {
    const posts = row % (1 + GETS / POSTS) === 0;
    const body = posts ? `order ${row}` : '';
    const options = { agent, port, host: '127.0.0.1', method: posts ? 'POST' : 'GET', path: posts ? '/echo' : '/' };
    const asked = request({ ...options, headers: { 'x-row': row, 'content-length': body.length } }, (answer) => {
      let said = '';
      answer.setEncoding('utf8').on('data', (data) => { said += data; }).on('end', () => {
        const right = answer.statusCode === 200 && said === (posts ? body : 'fine');
        if (!right) bad.push(`${row}: ${answer.statusCode} ${said}`);
        done();
      }).on('error', (error) => { bad.push(`${row}: ${error}`); done(); });
    });
    asked.on('error', (error) => { bad.push(`${row}: ${error}`); done(); });
    asked.end(body);
  });
  const worker = async () => {
    while (next < GETS + POSTS) {
      const row = next;
      next += 1;
      await one(row);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  agent.destroy();
  return bad;
}

async function behindNginx(programs, caFile, tls) {
  // By what ALPN makes of it, and by HTTP/1.1 though the server offers more.
  for (const [name, protocol] of [['auto', 'HTTP/2.0'], ['http1', 'HTTP/1.1']]) {
    const tokens = await provider(tls);
    const server = await start(name, programs, tls);
    const [port] = await freePorts(1);
    const config = configuration(name, tokens, server.port, caFile, `listen: ["127.0.0.1:${port}"]\nadmin: off`);
    const running = bearerd(BINARY, ['run', '--config', config], { PATH: process.env.PATH });
    await eventually('bearerd is there', 20, () => listens(port));
    const began = Date.now();
    const bad = await load(port);
    const seconds = Math.round((Date.now() - began) / 1000);
    running.kill('SIGTERM');
    const how = await running.ended;
    const log = await server.stop();

    const rows = new Map();
    for (const { row } of log) rows.set(row, (rows.get(row) ?? 0) + 1);
    const connections = new Set(log.map(({ connection }) => connection)).size;
    none(`nginx, ${name}: ${GETS} GETs and ${POSTS} POSTs in ${seconds} s, none failed`, bad);
    check(`nginx, ${name}: each arrived`, rows.size === GETS + POSTS, `${rows.size}`);
    const again = log.filter(({ row, method }) => method === 'POST' && rows.get(row) > 1);
    none(`nginx, ${name}: each POST arrived once`, again);
    none(`nginx, ${name}: each by ${protocol}`, log.filter((line) => line.protocol !== protocol));
    const others = log.filter(({ scheme, token }) => scheme !== 'Bearer' || token !== 'token-1');
    none(`nginx, ${name}: each with the token, once`, others);
    const least = Math.floor((GETS + POSTS) / EACH);
    const ends = `${connections} connections, each ended by nginx after ${EACH} requests`;
    check(`nginx, ${name}: ${ends}`, connections >= least, `fewer than ${least}`);
    check(`nginx, ${name}: SIGTERM ends bearerd with 0`, how === 0, running.output());
  }
}

/** A child process whose lines can be waited for, and written to. */
function lines(program, args, env) {
  const child = track(spawn(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'] }));
  const said = [];
  let rest = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (data) => {
    const parts = (rest + data).split('\n');
    rest = parts.pop();
    said.push(...parts);
  });
  child.stderr.on('data', (data) => { errors += data; });
  const ended = once(child, 'close');
  return {
    said,
    ended,
    write: (line) => child.stdin.write(`${line}\n`),
    line: (start) => eventually(`a line with ${start}`, 60, () => said.find((line) => line.startsWith(start)))
      .catch(() => { throw new Error(`no line with ${start}: ${said.join('\n')}\n${errors}`); }),
    end: () => child.kill('SIGTERM'),
  };
}

/** What the app must say of each case. */
const CALLS = {
  unary: 'OK hello at the end',
  large: 'the same',
  server_stream: '499500',
  client_stream: '499500',
  both_streams: 'OK 4950',
  status: 'NOT_FOUND no such order: ä',
  deadline: 'DEADLINE_EXCEEDED',
  cancel: 'first CANCELLED',
  many: '124750',
  after_renewal: 'OK hello at the end',
};

async function behindGrpc(program, caFile, tls) {
  const tokens = await provider(tls);
  const { PATH, HOME } = process.env;
  const own = [file('grpc.pem', tls.cert), file('grpc.key', tls.key)];
  const server = lines(program, [place('grpc_server.py'), ...own], { PATH, HOME });
  const port = (await server.line('listening ')).split(' ')[1];
  // Before it is issued, so that no call is early.
  server.write('take token-1');
  await server.line('done take');
  const config = configuration('grpc', tokens, port, caFile);
  const exec = ['exec', '--config', config, '--', program, place('grpc_client.py')];
  const app = lines(BINARY, exec, { PATH, HOME });
  await app.line('renewal\twaits');
  server.write('revoke token-1');
  await server.line('done revoke');
  server.write('take token-2');
  app.write('go on');
  await app.line('after_renewal\t');
  const [code] = await app.ended;
  const count = (start) => server.said.filter((line) => line.startsWith(start)).length;
  // What was given up may end a little later than the app.
  await eventually('the endless calls end', 20, () => count('endless ended') === 2).catch(() => {});
  server.end();

  for (const [name, expected] of Object.entries(CALLS)) {
    const said = app.said.find((line) => line.startsWith(`${name}\t`))?.split('\t')[1];
    check(`gRPC, ${name}: ${expected}`, said === expected, said);
  }
  check('gRPC: the app ends with 0', code === 0, code);
  none('gRPC: each call had our token alone', server.said.filter((line) => line.startsWith('wrong')));
  check('gRPC: the deadline reached the server', count('endless begins with a deadline') === 1, server.said.join('\n'));
  check('gRPC: what the app gave up ended at the server', count('endless ended') === 2, server.said.join('\n'));
  const refused = count('refused token-1');
  check('gRPC: one call was refused, and made once more with a new token', refused === 1, server.said.join('\n'));
  check('gRPC: that took one token request', tokens.issued.length === 2, tokens.issued.join(' '));
}

async function story() {
  const [caFile, tls] = await certificates('DNS:localhost,IP:127.0.0.1');
  const asked = process.argv.slice(2);
  const isAsked = (name) => asked.length === 0 || asked.includes(name);
  if (isAsked('nginx')) {
    const programs = await unpacked().catch((error) => console.log(`      skipped: nginx (${error.message})`));
    if (programs) await behindNginx(programs, caFile, tls);
  }
  if (isAsked('grpc')) {
    const { program, missing } = await python();
    if (missing) console.log(`      skipped: gRPC (${missing})`);
    else await behindGrpc(program, caFile, tls);
  }
}

await tell(story);
