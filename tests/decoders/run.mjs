// bearerd's path rules against real decoders. Every row of tests/paths.tsv goes straight to nginx and Apache in seven
// set-ups, which shows what each would serve, and then to bearerd in front of each, with a rule that lets only /public
// through: what a server would have given away from outside must never have reached it, and what reached it must be the
// same bytes.
//
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { bearerd, check, eventually, file, freePorts, tell } from '../oidc-provider/rig.mjs';
import { PUBLIC, SECRET, listens, start, unpacked } from './servers.mjs';
import { rows, sent } from './table.mjs';

const BINARY = process.env.BEARERD ?? fileURLToPath(new URL('../../target/debug/bearerd', import.meta.url));
const AT_ONCE = 16;
const PATIENCE = 10;

/** Sends one request by hand; what came back until the other end closed, as Latin-1. */
function ask(port, target, host, row) {
  return new Promise((done, failed) => {
    const socket = connect(port, '127.0.0.1');
    let answer = '';
    socket.setTimeout(PATIENCE * 1000, () => socket.destroy(new Error(`no end of the answer to ${row}: ${answer}`)));
    socket.on('data', (data) => { answer += data.toString('latin1'); });
    socket.on('close', () => done(answer));
    // Who refuses a request before reading all of it may reset the connection behind the answer.
    socket.on('error', (error) => (answer === '' ? failed(error) : done(answer)));
    socket.write(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nX-Row: ${row}\r\nConnection: close\r\n\r\n`, 'latin1');
  });
}

/** Calls `work` for each of `items`, some at a time. */
async function each(items, work) {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const statusOf = (answer) => Number(/^HTTP\/1\.[01] (\d{3})/.exec(answer)?.[1]);
const bodyOf = (answer) => answer.slice(answer.indexOf('\r\n\r\n') + 4);

/** What bearerd made of a request, by its answer alone; an answer of the upstream is `served`. */
function verdictOf(answer) {
  if (/^proxy-status: bearerd;/im.test(answer)) {
    const { status, reason } = JSON.parse(bodyOf(answer));
    const right = { 400: 'bad_path', 403: 'not_allowed' }[statusOf(answer)];
    return reason === right && status === statusOf(answer) ? reason : `${statusOf(answer)} ${status} ${reason}`;
  }
  const isBare = /^content-length: 0\r$/im.test(answer) && !/^server:/im.test(answer);
  return isBare && [400, 414, 431].includes(statusOf(answer)) ? 'refused' : 'served';
}

async function sidecar(servers) {
  const ports = await freePorts(servers.length);
  servers.forEach((server, i) => { server.listen = ports[i]; });
  const config = file('bearerd.json', JSON.stringify({
    admin: 'off',
    listen: servers.map(({ name, listen }) => ({ name, address: `127.0.0.1:${listen}` })),
    routes: servers.map(({ name, port }) => ({
      name,
      match: { listen: name },
      upstream: `http://127.0.0.1:${port}`,
      token: 'none',
      allow: [{ methods: ['GET'], path: '/public/**' }],
    })),
  }));
  const running = bearerd(BINARY, ['run', '--config', config], { PATH: process.env.PATH });
  let ended;
  running.ended.then((code) => { ended = code; });
  await eventually('bearerd listens', 20, async () => {
    if (ended !== undefined) throw new Error(`bearerd ended (${ended}): ${running.output()}`);
    return (await Promise.all(ports.map(listens))).every(Boolean);
  });
}

/** Checks that nothing is wrong; otherwise shows the first few. */
const none = (what, wrong) => check(what, wrong.length === 0, `${wrong.length}: ${wrong.slice(0, 8).join(' · ')}`);

async function story(programs) {
  const servers = await start(programs);
  await sidecar(servers.all);
  const calls = servers.all.flatMap((server) => rows.map((row) => ({ server, row })));
  await each(calls, async (call) => {
    const { server, row } = call;
    const upstream = `127.0.0.1:${server.port}`;
    const isUrl = /^http:\/\//i.test(row.written);
    call.target = row.target(upstream);
    call.straight = await ask(server.port, call.target, upstream, `${row.number}-straight`);
    call.through = await ask(server.listen, call.target, isUrl ? upstream : 'localhost', `${row.number}-through`);
  });
  await servers.stop();

  for (const server of servers.all) {
    const here = calls.filter((call) => call.server === server);
    const said = (call, word) => `${call.row.written} (${call.row.trick}): ${word}`;
    const wrong = { verdict: [], leak: [], arrival: [], bytes: [], answer: [] };
    let given = 0;
    let inside = 0;
    let shown = 0;
    for (const call of here) {
      const { row, straight, through } = call;
      const verdict = verdictOf(through);
      const isSecret = bodyOf(straight).includes(SECRET);
      const request = server.got.get(`${row.number}-through`);
      given += isSecret;
      inside += isSecret && call.target.startsWith('/public/');
      shown += row.verdict === 'served' && bodyOf(straight).includes(PUBLIC);
      if (verdict !== row.verdict) wrong.verdict.push(said(call, `${verdict} and not ${row.verdict}`));
      if (through.includes(SECRET) || (isSecret && request !== undefined)) wrong.leak.push(said(call, request));
      if ((request !== undefined) !== (row.verdict === 'served')) wrong.arrival.push(said(call, request));
      if (row.verdict !== 'served') continue;
      const expected = `GET ${sent(call.target)} HTTP/1.1`;
      if (request !== expected) wrong.bytes.push(said(call, request));
      // A server that does not take a fragment is asked another thing through bearerd.
      const isSame = statusOf(through) === statusOf(straight) && through.includes(PUBLIC) === straight.includes(PUBLIC);
      if (!isSame && !call.target.includes('#')) {
        wrong.answer.push(said(call, `${statusOf(straight)} ${statusOf(through)}`));
      }
    }
    const { name } = server;
    console.log(`      ${name}: by itself it gives away ${given} rows, of which ${inside} begin with /public/`);
    none(`${name}: ${here.length} rows have the table's verdict`, wrong.verdict);
    none(`${name}: nothing from outside /public got out, or was asked for`, wrong.leak);
    none(`${name}: only what is to be served arrived`, wrong.arrival);
    none(`${name}: it arrived byte for byte`, wrong.bytes);
    none(`${name}: it was answered as without bearerd`, wrong.answer);
    // Otherwise the checks above would say nothing.
    if (name !== 'recorder') {
      check(`${name}: is a decoder worth asking`, inside > 0 && shown > 0, `${inside} given, ${shown} shown`);
    }
  }
}

if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}
let programs;
try {
  programs = await unpacked();
} catch (error) {
  console.log(`skipped: nginx and Apache cannot be had (${error.message})`);
  process.exit(0);
}
await tell(() => story(programs));
