// The loads: what is asked of a proxy, and what is read off it meanwhile. A load is run against one proxy after the other.
// It gives figures by name, or it throws: none counts in which an answer was not an authenticated 200.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { OTHER_CORE, on, resident, spent } from './machine.mjs';
import { begin } from './world.mjs';

/** A token's life in seconds: none ends while it is measured. */
const LONG = 3_600;

/** Milliseconds in which pools are filled before anything counts. */
const WARM_UP = 400;

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

/** That the upstream has taken each of them, so that nobody answered in its place. */
function allArrived(taken, requests, underWay) {
  const short = requests - taken;
  if (short > 0) throw new Error(`${short} of ${requests} answers did not come from the upstream`);
  // What was under way at the end has no answer; the question for the count is a request too.
  if (-short > underWay + 2) throw new Error(`the upstream took ${taken} requests for ${requests} answers`);
}

/** CPU per request, what went through, and what was resident, with so many connections that ask without a pause. */
async function full({ api }, { pid, port }, connections, { path = '/', seconds }) {
  await wrk(port, path, connections, 1, WARM_UP);
  const [taken, cpu] = [await api.taken(), spent(pid)];
  let most = 0;
  const watch = setInterval(() => { most = Math.max(most, resident(pid)); }, seconds * 300);
  const load = await wrk(port, path, connections, seconds).finally(() => clearInterval(watch));
  const used = spent(pid) - cpu;
  allArrived(await api.taken() - taken, load.requests, connections);
  return {
    cpu: used / load.requests,
    rate: load.requests / load.seconds,
    // Less than all of the core: then it was the load or the upstream that could no more.
    busy: used / 1e9 / load.seconds,
    resident: most,
  };
}

const cpu = (connections) => ({
  name: `cpu-${connections}`,
  title: `CPU per request, ${connections} connection${connections === 1 ? '' : 's'}`,
  variant: { name: 'plain', life: LONG },
  measure: (world, proxy, effort) => full(world, proxy, connections, effort),
});

export const LOADS = [1, 16, 64, 256].map(cpu);
