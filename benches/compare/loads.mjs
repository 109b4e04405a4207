// The loads: what is asked of a proxy, and what is read off it meanwhile. A load is run against one proxy after the other.
// It gives figures by name, or it throws: none counts in which an answer was not an authenticated 200.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, folder } from '../../tests/oidc-provider/rig.mjs';
import { median } from './figures.mjs';
import { OTHER_CORE, PROXY_CORE, busy, mostDescriptors, on, peak, resident, spending } from './machine.mjs';
import { LARGE_FILE, begin, finish, listens, run } from './world.mjs';

/** A token's life in seconds: none ends while it is measured, */
const LONG = 3_600;
/** or one ends about every second, since a proxy renews well before the end. */
const SHORT = 2;

/** Milliseconds in which pools are filled before anything counts, and in which a load's last requests end. */
const WARM_UP = 400;
const SETTLE = 50;

/** The share of the proxy's core that others may have. On a quiet machine the kernel's own work there was up to 7 %, most where
 * the core is half idle; beside a build it was 22 to 95 %. */
const OTHERS = 0.12;

/** Connections that nobody uses any more: as many as this, where a proxy may have two descriptors for each. */
export const IDLE = Math.min(10_000, Math.floor((mostDescriptors() - 256) / 200) * 100);

/** Runs wrk and gives the number of its requests. They all had a 200, or it throws. */
async function wrk(port, path, connections, seconds, endAfter) {
  const url = `http://127.0.0.1:${port}${path}`;
  const running = begin(on(OTHER_CORE, 'wrk', '-t1', `-c${connections}`, `-d${seconds}s`, url));
  if (endAfter) sleep(endAfter).then(() => running.end('SIGINT'));
  const how = await running.ended;
  const said = running.said();
  const bad = /^ +(Non-2xx.*|Socket errors.*)$/m.exec(said);
  const total = /^ +(\d+) requests in ([\d.]+)(m?)s/m.exec(said);
  if (how !== 0 || bad || !total) throw new Error(bad?.[1] ?? `wrk ended (${how}): ${said}`);
  return { requests: Number(total[1]), seconds: Number(total[2]) / (total[3] ? 1_000 : 1) };
}

/** Runs h2load for so many requests, with 8 streams on each of 8 connections; every one had a 200, or it throws. */
async function h2load(port, requests) {
  const words = on(OTHER_CORE, 'h2load', '-t1', '-c8', '-m8', `-n${requests}`, `http://127.0.0.1:${port}/`);
  const { stdout } = await run(words[0], words.slice(1));
  const good = Number(/^status codes: (\d+) 2xx/m.exec(stdout)?.[1]);
  const [, time, unit] = /^finished in ([\d.]+)(ms|s)/m.exec(stdout) ?? [];
  if (good !== requests) throw new Error(/^requests:.*\nstatus.*/m.exec(stdout)?.[0] ?? stdout);
  return { requests, seconds: Number(time) / (unit === 'ms' ? 1_000 : 1) };
}

/** Runs our own load program: what it printed. */
async function ours({ load }, ...words) {
  const command = on(OTHER_CORE, load, ...words.map(String));
  const { stdout } = await run(command[0], command.slice(1)).catch((error) => {
    throw new Error(error.stderr || error.message);
  });
  return JSON.parse(stdout);
}

/** That the upstream has taken each of them, so that nobody answered in its place. */
function allArrived(taken, requests, underWay) {
  const short = requests - taken;
  if (short > 0) throw new Error(`${short} of ${requests} answers did not come from the upstream`);
  // What was under way at the end has no answer; nor had the last of the warm-up. Asking for the count counts too.
  if (-short > 2 * underWay + 2) throw new Error(`the upstream took ${taken} requests for ${requests} answers`);
}

/** Runs a load and gives what it gives, with the nanoseconds that it took the proxy, whose core was its own meanwhile. */
async function charged(pid, load) {
  const [busyBesides, spent] = [busy(PROXY_CORE), spending(pid)];
  const outcome = await load();
  const used = spent();
  if (used <= 0) throw new Error('it took no time on a processor, which cannot be');
  const others = busyBesides(used);
  if (others > OTHERS) throw new Error(`others took ${Math.round(100 * others)} % of the proxy's core`);
  return { ...outcome, used, others };
}

/** What a load costs a proxy, which is resident meanwhile. `load` gives its requests and seconds. */
async function costs({ api }, { pid }, underWay, load) {
  const [taken, { now, grown }] = [await api.taken(), peak(pid)];
  const { requests, seconds, used, others } = await charged(pid, load);
  allArrived(await api.taken() - taken, requests, underWay);
  return {
    requests,
    cpu: used / requests,
    rate: requests / seconds,
    // Less than all of the core: then it was the load or the upstream that could do no more.
    busy: used / 1e9 / seconds,
    others,
    resident: now + grown(),
  };
}

/** With so many connections that ask without a pause. */
async function full(world, proxy, connections, seconds, path = '/') {
  await wrk(proxy.port, path, connections, 1, WARM_UP);
  await sleep(SETTLE);
  return costs(world, proxy, connections, () => wrk(proxy.port, path, connections, seconds));
}

async function http2(world, proxy, seconds) {
  await h2load(proxy.port, 2_000);
  return costs(world, proxy, 0, () => h2load(proxy.port, 15_000 * seconds));
}

/** Each request has a line in the log, if not at once: Envoy writes what is left after 10 s. */
async function logged(world, proxy, seconds, path) {
  const lines = () => readFileSync(path).reduce((count, byte) => count + (byte === 0x0a ? 1 : 0), 0);
  const [taken, before] = [await world.api.taken(), lines()];
  const figures = await full(world, proxy, 64, seconds);
  // What was under way when the warm-up and the load ended may have none; and asking for the count counts too.
  const least = await world.api.taken() - taken - 2 * 64 - 2;
  await eventually(`${least} lines in the log`, 15, () => lines() - before >= least);
  return figures;
}

async function renewals(world, proxy, seconds, name) {
  const before = world.tokens.issued(name);
  const figures = await full(world, proxy, 64, seconds + 1);
  const tokens = world.tokens.issued(name) - before;
  if (tokens === 0) throw new Error('the token was not renewed meanwhile');
  return { ...figures, tokens };
}

/** Resident with connections that have each had an answer and now stay open, and how much that is for each of them. */
async function idle({ load }, { pid, port }, count) {
  const rest = resident(pid);
  const running = begin(on(OTHER_CORE, load, 'idle', `${port}`, '/', `${count}`), { stdio: ['pipe', 'pipe', 'pipe'] });
  await Promise.race([running.ended, running.says('"open"')]);
  await sleep(1_000);
  const spent = spending(pid);
  await sleep(500);
  const [used, held] = [spent() / 0.5e9, resident(pid)];
  // Each of them is asked once more: it was kept.
  running.input.end();
  const how = await running.ended;
  if (how !== 0) throw new Error(`idle connections: ${running.said()}`);
  return { idle: held, each: (held - rest) / count, idleCpu: used };
}

/** A large body, and how much more is resident at the most while it goes by. */
async function body({ large }, { pid, port }, path, ...more) {
  const url = `http://127.0.0.1:${port}${path}`;
  await run('curl', ['-q', '-sf', '-o', join(folder, 'small'), `http://127.0.0.1:${port}/`]);
  const { grown } = peak(pid);
  const form = '%{http_code} %{size_download} %{size_upload} %{time_total}';
  const words = on(OTHER_CORE, 'curl', '-q', '-sS', '-w', form, ...more, url);
  const { stdout, used, others } = await charged(pid, () => run(words[0], words.slice(1)));
  const [status, down, up, seconds] = stdout.split(' ').map(Number);
  if (status !== 200 || Math.max(down, up) !== large) {
    throw new Error(`status ${status}, ${down} bytes down and ${up} up`);
  }
  return { cpu: used / large, rate: large / 1e6 / seconds, others, grown: grown() };
}

const down = (world, proxy) => body(world, proxy, '/large', '-o', '/dev/null');

async function up(world, proxy) {
  const counted = join(folder, 'counted');
  const figures = await body(world, proxy, '/swallow', '-T', LARGE_FILE, '-H', 'Expect:', '-o', counted);
  if (Number(readFileSync(counted, 'utf8')) !== world.large) throw new Error('not all of it arrived');
  return figures;
}

/** From a process's start to the first authenticated answer, several times. */
async function start(world, proxy, { starts }) {
  const firsts = [];
  for (let i = 0; i < starts; i += 1) firsts.push(await startOnce(world, proxy));
  return { first: median(firsts) };
}

async function startOnce({ load }, { port, command }) {
  const running = begin(on(OTHER_CORE, load, 'start', `${port}`, '/', ...on(PROXY_CORE, ...command)));
  const how = await running.ended;
  // A worker that outlived its master still listens.
  await finish(running);
  await eventually('nobody listens', 5, async () => !(await listens(port)));
  if (how !== 0) throw new Error(running.said());
  return JSON.parse(running.said()).first / 1e3;
}

const plain = { name: 'plain', life: LONG };
/** Each way has processes of its own, so that the second finds no memory that the first has left. */
const bodies = (name) => ({ name, life: LONG, hasLargeBodies: true });
const cpu = (connections) => ({
  name: `cpu-${connections}`,
  variant: plain,
  measure: (world, proxy, { seconds }) => full(world, proxy, connections, seconds),
});
/** How much longer a fixed rate lasts than another load: a pause of the machine's own of 40 ms is 2 % of two seconds, and p99
 * would be nothing else. */
export const STEADY = 2.5;

const pace = (share) => ({
  name: `rate-${share}`,
  variant: plain,
  measure: async (world, { pid, port }, { seconds }) => {
    const rate = Math.round(world.most * share / 100);
    const taken = await world.api.taken();
    const lasting = STEADY * seconds;
    const times = await charged(pid, () => ours(world, 'pace', port, '/', 64, rate, lasting));
    allArrived(await world.api.taken() - taken, times.sent, 0);
    // Then the load was late itself, and it is its own delay that it measured.
    if (times.lateP99 > Math.max(100, times.p99 / 10)) throw new Error(`requests were sent late, p99 ${times.lateP99} µs`);
    // A proxy that could not keep up is not to be compared: how late it was depends on how long it was asked.
    return { ...times, rate, cpu: times.used / times.sent, isSaturated: times.seconds > 1.02 * lasting };
  },
});
const routes = (count) => ({
  name: `routes-${count}`,
  variant: { name: `routes-${count}`, life: LONG, routes: count, path: `/r${count >> 1}/x` },
  // One in the middle of the table, wherever that begins.
  measure: (world, proxy, { seconds }) => full(world, proxy, 64, seconds, `/r${count >> 1}/x`),
});

export const LOADS = [
  // First of all, while nobody has had more than a request or two.
  { name: 'rest', variant: plain, measure: async (_, { pid }) => ({ rest: resident(pid) }) },
  ...[1, 16, 64, 256].map(cpu),
  ...[50, 75].map(pace),
  {
    name: 'idle',
    variant: { name: 'idle', life: LONG, isCrowded: true },
    measure: (world, proxy, { connections }) => idle(world, proxy, connections),
  },
  { name: 'down', variant: bodies('down'), measure: down },
  { name: 'up', variant: bodies('up'), measure: up },
  { name: 'start', variant: { name: 'start', life: LONG, isCold: true }, measure: start },
  ...[1, 100, 10_000].map(routes),
  {
    name: 'app-h2',
    variant: { name: 'app-h2', life: LONG, appHttp2: true },
    measure: (world, proxy, { seconds }) => http2(world, proxy, seconds),
  },
  {
    name: 'upstream-h2',
    variant: { name: 'upstream-h2', life: LONG, upstreamHttp2: true },
    measure: (world, proxy, { seconds }) => full(world, proxy, 64, seconds),
  },
  {
    name: 'log',
    variant: { name: 'log', life: LONG, log: join(folder, 'access') },
    measure: (world, proxy, { seconds }, { name }) => logged(world, proxy, seconds, `${join(folder, 'access')}-${name}`),
  },
  {
    name: 'renewals',
    variant: { name: 'renewals', life: SHORT, renews: true },
    measure: (world, proxy, { seconds }, { name }) => renewals(world, proxy, seconds, name),
  },
];

/**
 * Requests in a second that nginx can do with 64 connections, or fewer, if the load and the upstream would be busy for more
 * than 60 % of their core at three quarters of that: what waits there is not the proxy's. Fixed rates are shares of it.
 */
export const mostOf = async (world, { port }, { seconds }) => {
  await wrk(port, '/', 64, 1, WARM_UP);
  const rates = [];
  for (let i = 0; i < 3; i += 1) {
    const { requests, seconds: taken } = await wrk(port, '/', 64, seconds);
    rates.push(requests / taken);
  }
  const most = median(rates);
  const share = busy(OTHER_CORE);
  await ours(world, 'pace', port, '/', 64, Math.round(0.75 * most), seconds);
  return most * Math.min(1, 0.6 / share());
};
