// The table, as Markdown that can stand in a README: medians side by side, ratios beside them; then the spread, what is not
// there and why, and what is to be reached.
import { digits, median } from './figures.mjs';
import { STEADY } from './loads.mjs';
import { ROWS } from './rows.mjs';

/** The order of the columns; the one that it is about comes first. */
export const ORDER = ['bearerd', 'nginx', 'HAProxy', 'Pingora', 'Envoy', 'floor'];
const AGAINST = ['nginx', 'Envoy', 'floor'];

const line = (cells) => `| ${cells.join(' | ')} |`;
function markdown(head, rows) {
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n');
}

const columns = (versions) => ORDER.filter((name) => versions[name] !== undefined);
const shown = (results) => ROWS.filter(({ load }) => results.has(load));

/** Medians, and what bearerd's are of others'. */
export function medians(results, versions) {
  const names = columns(versions);
  const against = AGAINST.filter((name) => names.includes(name));
  const ours = (name, content) => (name === 'bearerd' ? `**${content}**` : content);
  const head = ['', ...names.map((name) => ours(name, name)), ...against.map((name) => `÷ ${name}`)];
  const rows = shown(results).map((row) => {
    const middle = (name) => results.median(row, name);
    const cell = (name) => {
      if (results.isSaturated(row.load, name)) return 'saturated';
      return middle(name) === undefined ? '–' : `${digits(middle(name))}${mark(results, row, name)}`;
    };
    const ratio = (name) => {
      const [ours, theirs] = [results.values(row, 'bearerd'), results.values(row, name)];
      const both = [...ours.keys()].filter((round) => theirs.get(round));
      const isLimited = [name, 'bearerd'].some((one) => mark(results, row, one));
      if (row.hasRatio === false || isLimited || both.length === 0) return '–';
      return median(both.map((round) => ours.get(round) / theirs.get(round))).toFixed(2);
    };
    return [`${row.title}, ${row.unit}`, ...names.map((name) => ours(name, cell(name))), ...against.map(ratio)];
  });
  return markdown(head, rows);
}

/** A rate at which its core was not full: it could do more than the rest of the machine. */
function mark(results, row, name) {
  if (row.figure !== 'rate') return '';
  const busy = results.median({ load: row.load, figure: 'busy', scale: 1 }, name);
  return busy < 0.95 ? '†' : '';
}

function spreads(results, versions, rounds) {
  const names = columns(versions);
  return markdown(['', ...names], shown(results).map((row) => [`${row.title}, ${row.unit}`, ...names.map((name) => {
    const found = results.of(row, name);
    const fewer = found?.count < rounds ? `, ${found.count} of ${rounds}` : '';
    return found ? `${digits(found.least)} – ${digits(found.most)}${fewer}` : '–';
  })]));
}

export const machineLine = ({ cpu, cores, isShared, memory, kernel, date }) => (
  `${cpu}, ${cores} cores${isShared ? ' (the two are threads of one)' : ''}, ${memory}; ${kernel}; ${date}`);

export function page({ results, versions, binary, tools, machine, rounds, effort, most, providerMs, missing, judgement }) {
  const notes = results.notes();
  const title = (load) => ROWS.find((row) => row.load === load)?.title ?? load;
  const whom = columns(versions).map((name) => (name === 'floor' ? `floor (${versions[name]})` : `${name} ${versions[name]}`));
  const parts = [
    '<!-- Made by `node benches/compare/run.mjs`; benches/compare/README.md says how it is read. -->',
    '# bearerd beside what anyone would pick instead',
    `${machineLine(machine)}. Medians of ${rounds} interleaved rounds, ${effort.seconds} s for each load, ${STEADY * effort.seconds} at fixed rates. One worker each, on `
      + `a core of its own: ${whom.join(', ')}. Load and upstream on the other core: ${tools.join(', ')}.`,
    ...(binary ? [`bearerd is of ${binary.source}; SHA-256 ${binary.sha256}.`] : []),
    medians(results, versions),
    [
      'Less is better but for requests a second. The app speaks HTTP/1.1 and so does the upstream, behind TLS 1.3, unless it '
        + `says otherwise. Idle connections are ${effort.connections.toLocaleString('en-US')}, large bodies `
        + `${effort.large / 2 ** 20} MiB.`,
      '† The proxy\'s core was not full: load and upstream, which share the other core, could do no more. It has no ratio.',
      ...(most ? [`The top rate is ${digits(most)} requests a second: what nginx did at the most in this run with 64 `
        + 'connections, or less, so that the load\'s core stays below 60 % busy. Latency counts from when a request was '
        + 'due; a part of it is how late the load itself was. A saturated proxy did not keep up with the rate.'] : []),
      ...(results.has('start') ? ['Until their first answer bearerd and Envoy fetch their token; a bare client gets one from '
        + `this provider in ${digits(providerMs)} ms. The others have theirs from their configuration.`] : []),
    ].join('\n'),
    '## Verdict',
    'Ratios are of two figures of the same round: their median, and the least and the most. Within the spread is what was '
      + 'met in some rounds and missed in others.',
    markdown(['bearerd is to reach', '', 'this run', ''], judgement.map(({ what, goal, found, is }) => (
      [what, goal, found, is === 'met' ? is : `**${is}**`]))),
    '## Spread',
    'The least and the most of all rounds, and of how many where some were void.',
    spreads(results, versions, rounds),
  ];
  const absent = notes.filter(({ cannot }) => cannot);
  if (absent.length + missing.length > 0) {
    parts.push('## Not there', [
      ...missing.map(({ name, missing: why }) => `- ${name}: ${why}`),
      ...absent.map(({ load, peer, cannot }) => `- ${title(load)}, ${peer}: ${cannot}.`),
    ].join('\n'));
  }
  const failed = notes.filter(({ failed: why }) => why);
  parts.push('## Void', failed.length === 0 ? 'Nothing: every answer that counts here was an authenticated 200.'
    : failed.map(({ load, peer, failed: why }) => `- ${title(load)}, ${peer}: ${why.split('\n')[0]}`).join('\n'));
  return `${parts.join('\n\n')}\n`;
}
