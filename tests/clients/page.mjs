// The snippets of docs/clients.md, run as they stand: blocks marked `file NAME` are written, and each line of a block
// marked `run`, or all of one marked `script`, is typed in the folder where they are. Only the port and the CA's folder
// are other than on the page.
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { folder, track } from '../oidc-provider/rig.mjs';

const PAGE = readFileSync(new URL('../../docs/clients.md', import.meta.url), 'utf8');
const MODULES = fileURLToPath(new URL('node_modules', import.meta.url));
/** A first compilation by Go takes a while. */
const PATIENCE = 180;

/** `{files: [{name, text}], lines}`. */
function read() {
  const found = { files: [], lines: [] };
  for (const [, kind, name, text] of PAGE.matchAll(/<!-- (file|run|script) ?([\w.]*) -->\n```\w+\n([^]*?)```/g)) {
    if (kind === 'file') found.files.push({ name, text });
    else found.lines.push(...(kind === 'script' ? [text.trim()] : text.trim().split('\n')));
  }
  return found;
}

/** The program that the last line runs, behind its variables. */
const programOf = (line) => line.split('\n').at(-1).split(' ').find((word) => !/^\w+=/.test(word));

/** Where Java is, for those who did not say so. */
async function javaHome() {
  const found = await promisify(execFile)('sh', ['-c', 'command -v java']).catch(() => undefined);
  return found && dirname(dirname(realpathSync(found.stdout.trim())));
}

/**
 * Runs them all. `port` is where bearerd listens, `absent(program)` why a program is not there, `arrived()` what the API
 * has seen since it was last called. Gives each line, with why it was `skipped` or what the `problem` was.
 */
export async function* run({ port, ca, socket, python, absent, arrived }) {
  const { files, lines } = read();
  const place = join(folder, 'page');
  mkdirSync(place);
  symlinkSync(MODULES, join(place, 'node_modules'));
  const here = (text) => text
    .replace(/(localhost:|proxyPort=)4280/g, `$1${port}`)
    .replaceAll('/run/bearerd/ca/', `${ca}/`)
    .replaceAll('/run/bearerd/app.sock', socket);
  for (const { name, text } of files) writeFileSync(join(place, name), here(text));

  const PATH = python ? `${dirname(python)}:${process.env.PATH}` : process.env.PATH;
  const { HOME, JAVA_HOME = await javaHome() } = process.env;
  const env = { PATH, HOME, ...(JAVA_HOME && { JAVA_HOME }) };
  for (const line of lines) {
    const reason = await absent(programOf(line));
    if (reason !== undefined) {
      yield { line, skipped: reason };
      continue;
    }
    const { code, said } = await new Promise((done) => {
      const options = { cwd: place, env, timeout: PATIENCE * 1000 };
      track(execFile('sh', ['-ec', here(line)], options, (error, out, err) => {
        done({ code: error?.code ?? error?.signal ?? 0, said: out + err });
      }));
    });
    const seen = await arrived();
    const right = seen.length === 1 && seen[0].credentials === 'ours';
    let problem;
    if (code !== 0) problem = `it ended with ${code}: ${said}`;
    else if (!/\b7\b/.test(said)) problem = `it did not print the order: ${said}`;
    else if (!right) problem = `the API saw ${JSON.stringify(seen)}`;
    yield { line, problem };
  }
}
