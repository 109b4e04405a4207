// Where bearerd is to be, held against the figures of this very run.
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { digits, summary } from './figures.mjs';
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

/** What bearerd is to reach. `found` gives a figure for each round that has what it takes. */
function targets(results, providerMs) {
  const values = (one, peer) => results.values(one, peer);
  const ratio = (what, limit, ours, peer, { theirs = ours, name = peer } = {}) => ({
    what, limit, unit: ` × ${name}`, loads: [ours.load, theirs.load],
    found: paired(values(ours, 'bearerd'), values(theirs, peer), (one, other) => one / other),
  });
  const most = (what, limit, one, change = (value) => value) => ({
    what, limit, unit: ` ${one.unit}`, loads: [one.load], found: [...values(one, 'bearerd').values()].map(change),
  });
  const large = (way) => {
    const cpu = row(way, 'cpu');
    const [best] = OTHERS.filter((peer) => results.median(cpu, peer) !== undefined)
      .sort((a, b) => results.median(cpu, a) - results.median(cpu, b));
    return [
      most(`Resident grows while a large body goes ${way}`, 4, row(way, 'grown')),
      ratio(`CPU per GB ${way}`, 1, cpu, best, { name: best ? `${best}, the best peer` : 'the best peer' }),
    ];
  };
  const [one, many] = [1, 10_000].map((count) => row(`routes-${count}`, 'cpu'));
  return [
    ratio('CPU per request, 64 connections', 0.95, CPU_64, 'nginx'),
    ratio('CPU per request, 64 connections', 0.35, CPU_64, 'Envoy'),
    ratio('CPU per request, 64 connections', 1.3, CPU_64, 'floor'),
    // nginx has none to compare with.
    ratio('CPU per request, 64 connections, HTTP/2 upstream', 0.9, row('upstream-h2', 'cpu'), 'nginx',
      { theirs: CPU_64, name: 'nginx with HTTP/1.1' }),
    ratio('CPU per request, 1 connection', 1, row('cpu-1', 'cpu'), 'nginx'),
    ratio("p99 at half of the top rate", 1, row('rate-50', 'p99'), 'nginx'),
    most('Resident at rest', 6, row('rest', 'rest')),
    most('Each of many idle connections', 16, row('idle', 'each')),
    ...['down', 'up'].flatMap(large),
    most('Start to the first authenticated answer, without the provider', 25, row('start', 'first'),
      (value) => value - providerMs),
    ratio('CPU per request with 10,000 routes', 1.05, many, 'bearerd', { theirs: one, name: '1 route' }),
  ];
}

/** What two figures give in each round that has both. */
const paired = (ours, theirs, compute) => (
  [...ours].filter(([round]) => theirs.has(round)).map(([round, value]) => compute(value, theirs.get(round))));

/** As many digits as tell it from the limit. */
const beside = (limit, value) => [3, 4, 5].map((count) => digits(value, count)).find((text) => Number(text) !== limit)
  ?? digits(value);

/**
 * Each target of the loads that were run: what is to be reached, what was found, and whether that is so in every round
 * (`met`) or in none (`not met`). In between, the rounds differ by more than it is away from the limit.
 */
export function verdict(results, { binary, providerMs, rounds }) {
  const list = targets(results, providerMs).filter(({ loads }) => loads.every(results.has));
  const judged = list.map(({ what, limit, unit, found }) => {
    const goal = `≤ ${limit}${unit}`;
    if (found.length === 0) return { what, goal, found: '–', is: 'not measured' };
    const { median, least, most, count } = summary(found);
    const range = count === 1 ? [] : [`${beside(limit, least)}–${beside(limit, most)}`];
    const told = [...range, ...(count < rounds ? [`${count} of ${rounds} rounds`] : [])].join(', ');
    const is = most <= limit ? 'met' : least > limit ? 'not met' : 'within the spread';
    return { what, goal, found: `${beside(limit, median)}${unit}${told && ` (${told})`}`, is };
  });
  const size = statSync(binary).size * 2 ** -20;
  const kind = isStatic(binary) ? 'static' : 'dynamic';
  const is = size <= 12 && kind === 'static' ? 'met' : 'not met';
  return [...judged, { what: 'Release binary', goal: '≤ 12 MiB, static', found: `${beside(12, size)} MiB, ${kind}`, is }];
}
