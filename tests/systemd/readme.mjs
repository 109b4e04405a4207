// What deploy/README.md tells a reader to do, read from the page itself, so that what is tested is what is told.
import { readFileSync } from 'node:fs';

const PAGE = new URL('../../deploy/README.md', import.meta.url);

/** The blocks of the page's part on machines, in order: below which heading, of which language, and what they say. */
function blocks() {
  const found = [];
  let part;
  let heading;
  let open;
  for (const line of readFileSync(PAGE, 'utf8').split('\n')) {
    const fence = /^( *)```(\w*)$/.exec(line);
    if (open !== undefined) {
      if (fence) open = void found.push(open);
      else open.text += `${line.slice(open.indent)}\n`;
    } else if (fence) {
      open = { part, heading, language: fence[2], indent: fence[1].length, text: '', done: false };
    } else {
      const [, marks, title] = /^(##+) (.*)$/.exec(line) ?? [];
      if (marks === '##') part = title;
      if (marks) heading = title;
    }
  }
  return found.filter(({ part }) => part === 'Debian package' || part === 'systemd');
}

const all = blocks();

/** The blocks of one language below a heading; at least one, or the page has lost it. */
function below(heading, language) {
  const found = all.filter((block) => block.heading === heading && block.language === language);
  if (found.length === 0) throw new Error(`deploy/README.md has no block of ${language} below "${heading}"`);
  return found;
}

/** The commands of the `index`th block below a heading; they count as run from now on. */
export function commands(heading, index = 0) {
  const block = below(heading, 'sh')[index];
  if (block === undefined) throw new Error(`deploy/README.md has fewer blocks below "${heading}"`);
  block.done = true;
  return block.text;
}

/** The keys of a configuration's top level, each with its lines. */
const keys = (text) => new Map(text.split(/^(?=[a-z_]+:)/m).map((part) => [part.slice(0, part.indexOf(':')), part]));

/** A configuration with what the `index`th piece below a heading says in it, in the place of what it said before. */
export function configured(configuration, heading, index = 0) {
  const block = below(heading, 'yaml')[index];
  block.done = true;
  return [...new Map([...keys(configuration), ...keys(block.text)]).values()].join('');
}

/** Pieces of units: what the page has as such, and what its commands install. Each with the unit that it is for. */
export function pieces() {
  const shown = all.filter(({ language }) => language === 'ini').map((block) => {
    block.done = true;
    return { unit: 'bearerd.service', where: block.heading, text: block.text };
  });
  const installed = all.filter(({ language }) => language === 'sh').flatMap(({ heading, text }) => (
    [...text.matchAll(/ \/etc\/systemd\/system\/([a-z.]+)\.d\/\S+ <<'END'\n([\s\S]*?)^END$/gm)]
      .map(([, unit, text]) => ({ unit, where: heading, text }))));
  return [...shown, ...installed];
}

/** What no test has looked at. */
export const left = () => all.filter(({ done, language }) => !done && language !== '')
  .map(({ heading, text }) => `${heading}: ${text}`);
