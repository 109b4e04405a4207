// Two builds of bearerd side by side, for whoever changes something that is meant to cost less. Each round gives a ratio
// of its own, of two runs that followed each other; their median is steadier than the ratio of the medians.
import { digits, summary } from './figures.mjs';

/** What of a load's figures is compared, and how it is written. */
const COMPARED = [
  ['cpu', 'µs CPU per request', 1e-3],
  ['rate', 'requests per second', 1],
  ['resident', 'MiB resident', 2 ** -20],
];

export function abTable(loads, [old, fresh], results) {
  const rows = loads.flatMap((load) => COMPARED.flatMap(([key, unit, scale]) => {
    const pairs = results.filter(({ load: name }) => name === load.name)
      .map(({ outcomes }) => [outcomes.get(old.name)?.[key], outcomes.get(fresh.name)?.[key]])
      .filter((pair) => pair.every((value) => value !== undefined));
    if (pairs.length === 0) return [];
    const [before, after] = [0, 1].map((side) => summary(pairs.map((pair) => pair[side] * scale)));
    const ratio = summary(pairs.map(([a, b]) => b / a));
    const spread = ({ median: middle, least, most }) => `${digits(middle)} (${digits(least)}–${digits(most)})`;
    return [[`${load.name}, ${unit}`, spread(before), spread(after), spread(ratio)]];
  }));
  const head = ['median (least–most)', 'OLD', 'NEW', 'NEW / OLD, round by round'];
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
  return [head, ...rows].map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ')).join('\n');
}
