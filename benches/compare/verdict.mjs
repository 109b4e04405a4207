// Where bearerd is to be, held against the figures of this very run.
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { digits } from './figures.mjs';
import { ROWS } from './rows.mjs';

const row = (load, figure) => ROWS.find((one) => one.load === load && one.figure === figure);
const CPU_64 = row('cpu-64', 'cpu');
const OTHERS = ['nginx', 'HAProxy', 'Pingora', 'Envoy'];

/** Whether a program loads others when it starts: it then names who is to load them. */
export function isStatic(path) {
  const file = openSync(path, 'r');
  const header = Buffer.alloc(4096);
  const length = readSync(file, header, 0, header.length, 0);
  closeSync(file);
  const [start, size, count] = [Number(header.readBigUInt64LE(32)), header.readUInt16LE(54), header.readUInt16LE(56)];
  const PT_INTERP = 3;
  for (let i = 0; i < count && start + i * size + 4 <= length; i += 1) {
    if (header.readUInt32LE(start + i * size) === PT_INTERP) return false;
  }
  return true;
}

/** Each target: what is to be reached, what was found, and whether that is so; those without figures are left out. */
export function verdict(results, { binary, providerMs }) {
  const list = [];
  const say = (what, goal, limit, found, unit) => {
    if (found === undefined || Number.isNaN(found)) return;
    list.push({ what, goal, found: `${digits(found)}${unit}`, isMet: found <= limit });
  };
  const ratio = (what, limit, ours, peer, { theirs = ours, name = peer } = {}) => {
    const found = results.median(ours, 'bearerd') / results.median(theirs, peer);
    say(what, `≤ ${limit.toFixed(2)} × ${name}`, limit, found, ` × ${name}`);
  };

  ratio('CPU per request, 64 connections', 0.95, CPU_64, 'nginx');
  ratio('CPU per request, 64 connections', 0.35, CPU_64, 'Envoy');
  ratio('CPU per request, 64 connections', 1.3, CPU_64, 'floor');
  // nginx has none to compare with.
  const http1 = { theirs: CPU_64, name: 'nginx with HTTP/1.1' };
  ratio('CPU per request, 64 connections, HTTP/2 upstream', 0.9, row('upstream-h2', 'cpu'), 'nginx', http1);
  ratio('CPU per request, 1 connection', 1, row('cpu-1', 'cpu'), 'nginx');
  ratio("p99 at half of nginx's most", 1, row('rate-50', 'p99'), 'nginx');
  say('Resident at rest', '≤ 6 MiB', 6, results.median(row('rest', 'rest'), 'bearerd'), ' MiB');
  say('Each of many idle connections', '≤ 16 KiB', 16, results.median(row('idle', 'each'), 'bearerd'), ' KiB');
  for (const way of ['down', 'up']) {
    say(`Resident grows while 1 GiB goes ${way}`, '≤ 4 MiB', 4, results.median(row(way, 'grown'), 'bearerd'), ' MiB');
    const cpu = row(way, 'cpu');
    const [best] = OTHERS.filter((peer) => results.median(cpu, peer) !== undefined)
      .sort((a, b) => results.median(cpu, a) - results.median(cpu, b));
    if (best) ratio(`CPU per GB ${way}`, 1, cpu, best, { name: `${best}, the best peer` });
  }
  const first = results.median(row('start', 'first'), 'bearerd');
  say('Start to the first authenticated answer, without the provider', '≤ 25 ms', 25, first - providerMs, ' ms');
  const [one, many] = [1, 10_000].map((count) => results.median(row(`routes-${count}`, 'cpu'), 'bearerd'));
  say('CPU per request with 10,000 routes', '≤ 1.05 × 1 route', 1.05, many / one, ' × 1 route');
  const size = statSync(binary).size * 2 ** -20;
  list.push({
    what: 'Release binary',
    goal: '≤ 12 MiB, static',
    found: `${digits(size)} MiB, ${isStatic(binary) ? 'static' : 'dynamic'}`,
    isMet: size <= 12 && isStatic(binary),
  });
  return list;
}
