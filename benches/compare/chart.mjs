// The chart: bars for the figures that people ask for first, in an SVG that stands by itself, on light ground and dark.
import { digits } from './figures.mjs';
import { ROWS } from './rows.mjs';
import { ORDER, machineLine } from './table.mjs';

const FLOOR = 'floor';
const WIDTH = 880;
const LEFT = 84;
const GAP = 36;
const BAR = 18;
const PITCH = 26;

const row = (load, figure) => ROWS.find((one) => one.load === load && one.figure === figure);
const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const text = (x, y, content, more = '') => (
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escape(content)}</text>`);

/** What it has a panel for, each beside the next, two in a row. */
const PANELS = [
  { of: row('cpu-64', 'cpu'), title: 'CPU per request, 64 connections', unit: 'µs', hasFloor: true },
  { of: row('cpu-1', 'cpu'), title: 'CPU per request, 1 connection', unit: 'µs', hasFloor: true },
  { of: row('rest', 'rest'), title: 'Resident memory at rest', unit: 'MiB' },
  { of: row('cpu-64', 'resident'), title: 'Resident memory under load, 64 connections', unit: 'MiB' },
];

/** The bars of one figure, one for each proxy, from the left edge `x`. */
function panel({ of, title, unit, hasFloor }, results, names, x, y) {
  const width = (WIDTH - GAP) / 2 - LEFT - 72;
  const bars = names.filter((name) => name !== FLOOR);
  const floor = hasFloor ? results.median(of, FLOOR) : undefined;
  const most = Math.max(floor ?? 0, ...bars.map((name) => results.median(of, name) ?? 0));
  const long = (value) => width * value / most;
  const top = y + 30;
  const parts = [text(x, y + 14, title, 'class="title"')];
  bars.forEach((name, i) => {
    const found = results.of(of, name);
    const line = top + i * PITCH;
    const isOurs = name === 'bearerd';
    parts.push(text(x + LEFT - 8, line + BAR - 5, name, `text-anchor="end"${isOurs ? ' class="ours"' : ''}`));
    if (found === undefined) {
      parts.push(text(x + LEFT, line + BAR - 5, '–'));
      return;
    }
    const [size, kind] = [long(found.median), isOurs ? 'bar-ours' : 'bar'];
    parts.push(
      `<rect x="${x + LEFT}" y="${line}" width="${size.toFixed(1)}" height="${BAR}" rx="2" class="${kind}"/>`,
      text(x + LEFT + size + 6, line + BAR - 5, `${digits(found.median)} ${unit}`, isOurs ? 'class="ours"' : ''),
    );
  });
  if (floor !== undefined) {
    const at = x + LEFT + long(floor);
    const end = top + bars.length * PITCH;
    parts.push(`<line x1="${at.toFixed(1)}" y1="${top - 4}" x2="${at.toFixed(1)}" y2="${end}" class="floor"/>`);
    parts.push(text(at, end + 13, `floor: ${digits(floor)} ${unit}`, 'class="small" text-anchor="middle"'));
  }
  return parts.join('\n');
}

export function chart({ results, versions, machine, rounds }) {
  const names = ORDER.filter((name) => versions[name] !== undefined);
  const panels = PANELS.filter(({ of }) => results.has(of.load));
  const each = 30 + names.filter((name) => name !== FLOOR).length * PITCH + 34;
  const height = Math.ceil(panels.length / 2) * each + 62;
  const drawn = panels.map((one, i) => (
    panel(one, results, names, (i % 2) * ((WIDTH + GAP) / 2), 8 + Math.floor(i / 2) * each)));
  const whom = names.filter((name) => name !== FLOOR).map((name) => `${name} ${versions[name]}`).join(', ');
  const notes = [
    `${whom}; one worker each, verified TLS 1.3 to the upstream. Less is better.`,
    'The floor is a byte pump on tokio and rustls: read, splice the bearer in, encrypt, write.',
    `${rounds === 1 ? 'One round' : `Medians of ${rounds} interleaved rounds`} on ${machineLine(machine)}.`,
  ];
  const size = `viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img">
<title>bearerd beside other proxies: CPU per request and resident memory</title>
<style>
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-size: 14px; font-weight: 600; }
  .ours { font-weight: 600; }
  .small { font-size: 11.5px; fill: #59636e; }
  .bar { fill: #9aa7b4; }
  .bar-ours { fill: #1f6feb; }
  .floor { stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 5 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; }
    .bar { fill: #59636e; }
    .bar-ours { fill: #4493f8; }
    .floor { stroke: #f0883e; }
  }
</style>
${drawn.join('\n')}
${notes.map((note, i) => text(0, height - 44 + i * 17, note, 'class="small"')).join('\n')}
</svg>
`;
}
