// Two builds of bearerd side by side, for whoever changes something that is meant to cost less. Each round gives a ratio
// of its own, of two runs that followed each other; their median is steadier than the ratio of the medians.
import { digits, summary } from './figures.mjs';
import { ROWS } from './rows.mjs';

const spread = ({ median, least, most }) => `${digits(median)} (${digits(least)}–${digits(most)})`;

/** `outcomes` are figures by name, each with its round, load and build. */
export function abTable(loads, outcomes) {
  const of = (build, { load, figure }) => new Map(outcomes
    .filter((one) => one.build === build && one.load === load && one[figure] !== undefined && !one.isSaturated)
    .map((one) => [one.round, one[figure]]));
  const rows = loads.flatMap(({ name }) => ROWS.filter(({ load }) => load === name)).flatMap((row) => {
    const [old, fresh] = [of('old', row), of('new', row)];
    const both = [...old.keys()].filter((round) => fresh.has(round));
    if (both.length === 0) return [];
    const side = (values) => spread(summary(both.map((round) => values.get(round) * row.scale)));
    const ratios = both.filter((round) => old.get(round) !== 0).map((round) => fresh.get(round) / old.get(round));
    return [[`${row.title}, ${row.unit}`, side(old), side(fresh), ratios.length > 0 ? spread(summary(ratios)) : '–']];
  });
  const head = ['median (least–most)', 'OLD', 'NEW', 'NEW / OLD, round by round'];
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
  const line = (row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  const told = outcomes.filter((one) => one.failed || one.isSaturated)
    .map(({ load, build, failed }) => `VOID: ${load}, ${build}: ${failed ?? 'it did not keep up with the rate'}`);
  return [...[head, ...rows].map(line), ...told].join('\n');
}
