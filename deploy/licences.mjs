// Prints the licences of all that is in the binary: ours, those of the crates, of Rust's standard library and, where it is
// linked statically, of the GNU C library. Whoever passes the binary on owes their readers these texts.
//
// All of it is read from what the binary is built of: the sources that cargo fetched, the toolchain, and on Debian and Ubuntu
// the C library's package. What is missing ends it with 1, since a text with a hole would not be noticed.
//
//   node deploy/licences.mjs TRIPLE [--dynamic] > LICENSE
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const [triple, how] = process.argv.slice(2);
const isStatic = how !== '--dynamic';
const root = fileURLToPath(new URL('..', import.meta.url));
const run = (command, ...args) => execFileSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
const lacks = (what) => {
  console.error(`licences: ${what}`);
  process.exit(1);
};
if (triple === undefined) lacks('for which target? As in `node deploy/licences.mjs x86_64-unknown-linux-gnu`');

const CALLED = /^(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?$/i;
// What is in a crate's package and in no binary.
const ASIDE = new Set(['tests', 'benches', 'examples', 'target', '.git', 'scripts', 'fuzz']);

/** The texts of licences below a folder, by their path in it. */
function texts(folder, below = folder) {
  return readdirSync(below, { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name);
    if (entry.isDirectory()) return ASIDE.has(entry.name) ? [] : texts(folder, path);
    const isText = CALLED.test(entry.name) && !/\.(rs|html|spdx)$/.test(entry.name);
    return isText ? [{ path: relative(folder, path), text: readFileSync(path, 'utf8') }] : [];
  });
}

/** What is linked: no build dependency, no procedural macro. */
function crates() {
  const listed = run('cargo', 'tree', '--locked', '--offline', '--edges', 'normal,no-proc-macro', '--target', triple,
    '--prefix', 'none', '--no-dedupe', '--format', '{p}');
  const linked = new Set(listed.trim().split('\n').map((line) => line.split(' ').slice(0, 2).join(' ')));
  const { packages } = JSON.parse(run('cargo', 'metadata', '--locked', '--offline', '--format-version', '1',
    '--filter-platform', triple));
  return packages.filter(({ name, version, source }) => source !== null && linked.has(`${name} v${version}`))
    .map(({ name, version, license, manifest_path }) => {
      const found = texts(dirname(manifest_path));
      if (found.length === 0) lacks(`${name} ${version} (${license}) brings no text of its licence`);
      return { name: `${name} ${version}`, licence: license, found };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

const named = { lt: '<', gt: '>', quot: '"', amp: '&' };
const decoded = (html) => html.replace(/&(?:#(\d+)|(lt|gt|quot|amp));/g, (_, code, name) => (
  code ? String.fromCodePoint(code) : named[name]));

/** The standard library, which the toolchain brings built, and the crates in it. */
function library() {
  const file = join(run('rustc', '--print', 'sysroot').trim(), 'share/doc/rust/COPYRIGHT-library.html');
  if (!existsSync(file)) lacks(`there is no ${file}; rustup's toolchains have it`);
  const [own, ...others] = readFileSync(file, 'utf8').split(/<h3>📦 /);
  const plain = (html) => decoded(html.replace(/<[^>]*>/g, '')).replace(/[ \t]+\n/g, '\n').replace(/\n{3,}/g, '\n\n');
  return {
    own: plain(own.slice(own.indexOf('<body>'))),
    others: others.map((html) => ({
      name: html.slice(0, html.indexOf('<')).replace(/-(?=\d)/, ' '),
      licence: /License:<\/b> ([^<]*)</.exec(html)?.[1].trim() ?? '',
      found: [...html.matchAll(/<summary><code>([^<]*)<\/code><\/summary>\s*<pre>([\s\S]*?)<\/pre>/g)]
        .map(([, path, text]) => ({ path, text: decoded(text) })),
    })),
  };
}

/** The package that libc.a is from. */
function c() {
  const notices = '/usr/share/doc/libc6-dev/copyright';
  const lgpl = '/usr/share/common-licenses/LGPL-2.1';
  for (const file of [notices, lgpl]) if (!existsSync(file)) lacks(`there is no ${file}, as there is on Debian and Ubuntu`);
  const [name, version] = run('dpkg-query', '--show', '--showformat=${source:Package} ${source:Version}', 'libc6-dev').split(' ');
  return { name, version, notices: readFileSync(notices, 'utf8'), lgpl: readFileSync(lgpl, 'utf8') };
}

const tidy = (text) => text.replace(/\r/g, '').replace(/[ \t]+$/gm, '').replace(/^\n+|\s+$/g, '');
const line = '='.repeat(80);
const titled = (title, text) => `${line}\n${title}\n${line}\n\n${tidy(text)}\n`;

/** Each text once, under the names of all that it is for. */
function once(parts) {
  const found = new Map();
  for (const { name, found: files } of parts) {
    for (const { path, text } of files) {
      const key = tidy(text).replace(/\s+/g, ' ');
      const { names } = found.get(key) ?? found.set(key, { text, names: [] }).get(key);
      names.push(`${name}: ${path}`);
    }
  }
  return [...found.values()].map(({ names, text }) => titled(names.join('\n'), text));
}

const std = library();
const linked = crates();
const version = /^version = "(.*)"$/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'))[1];
/** What linking the C library statically asks for. */
function libraryOfC() {
  const libc = c();
  return [
    titled('The GNU C library', `This program is linked with the GNU C Library, from the source package ${libc.name} ${libc.version}. That library is free
software under the GNU Lesser General Public License, version 2.1 or later, whose text follows; there is no warranty for it.

You may change the library, and link this program with what you made of it: its source is in its repository under the tag of
this version, and \`deploy/build binary\` there links it. To find out what goes wrong then, you may take the program apart. A
release has the library's source beside the binary; Debian's snapshot archive and Ubuntu's Launchpad keep it, too.

What is linked of GCC's own libgcc is under the GCC Runtime Library Exception, which asks for nothing here.`),
    titled('The GNU C library: GNU Lesser General Public License', libc.lgpl),
    titled('The GNU C library: copyright, as its package has it', libc.notices),
  ];
}

const list = (parts) => parts.map(({ name, licence }) => `  ${name}: ${licence}`).join('\n');

process.stdout.write([
  `bearerd ${version}, for ${triple}\n`,
  `bearerd may be used under the MIT licence or the Apache License 2.0, at your option. Both stand here, and after them the
licences of what is in the same file: crates, ${isStatic ? "Rust's standard library, and the GNU C library, which is linked statically" : "and Rust's standard library"}.\n`,
  titled('bearerd: LICENSE-MIT', readFileSync(join(root, 'LICENSE-MIT'), 'utf8')),
  titled('bearerd: LICENSE-APACHE', readFileSync(join(root, 'LICENSE-APACHE'), 'utf8')),
  ...(isStatic ? libraryOfC() : []),
  titled('Crates', list(linked)),
  titled("Crates of Rust's standard library, those for other systems among them", list(std.others)),
  titled("Rust's standard library", std.own),
  ...once([...linked, ...std.others]),
].join('\n'));
