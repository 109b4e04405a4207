// The snippets of docs/clients.md, run as they stand: blocks marked `file NAME` are written, and each line of a block
// marked `run` is typed in the folder where they are. Only the port and the CA's folder are other than on the page.
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { folder, track } from '../oidc-provider/rig.mjs';

const PAGE = readFileSync(new URL('../../docs/clients.md', import.meta.url), 'utf8');
const MODULES = fileURLToPath(new URL('node_modules', import.meta.url));
/** A first compilation by Go takes a while. */
const PATIENCE = 180;

/** `{files: [{name, text}], runs: [{what, lines}]}`; `what` says which part of bearerd a run needs, if it does. */
function read() {
  const found = { files: [], runs: [] };
  for (const [, kind, argument, text] of PAGE.matchAll(/<!-- (file|run) ?([\w.]*) -->\n```\w+\n([^]*?)```/g)) {
    if (kind === 'file') found.files.push({ name: argument, text });
    else found.runs.push({ what: argument, lines: text.trim().split('\n') });
  }
  return found;
}

/** The program that a line runs, behind its variables. */
const programOf = (line) => line.split(' ').find((word) => !/^\w+=/.test(word));

/**
 * Runs them all. `port` is where bearerd listens, `later(line, what)` why a line is not tried yet, `absent(program)`
 * why it cannot be, `arrived()` what the API has seen since it was last called. Gives each line, with why it was
 * `skipped` or what the `problem` was.
 */
export async function* run({ port, ca, socket, python, later, absent, arrived }) {
  const { files, runs } = read();
  const place = join(folder, 'page');
  mkdirSync(place);
  symlinkSync(MODULES, join(place, 'node_modules'));
  const here = (text) => text
    .replace(/(localhost:|proxyPort=)4280/g, `$1${port}`)
    .replaceAll('/run/bearerd/ca/', `${ca}/`)
    .replaceAll('/run/bearerd/app.sock', socket);
  for (const { name, text } of files) writeFileSync(join(place, name), here(text));

  const PATH = python ? `${dirname(python)}:${process.env.PATH}` : process.env.PATH;
  const { HOME, JAVA_HOME } = process.env;
  const env = { PATH, HOME, ...(JAVA_HOME && { JAVA_HOME }) };
  for (const { what, lines } of runs) {
    for (const line of lines) {
      const reason = later(line, what) ?? await absent(programOf(line));
      if (reason !== undefined) {
        yield { line, skipped: reason };
        continue;
      }
      const { code, said } = await new Promise((done) => {
        const options = { cwd: place, env, timeout: PATIENCE * 1000 };
        track(execFile('sh', ['-c', here(line)], options, (error, out, err) => {
          done({ code: error?.code ?? error?.signal ?? 0, said: out + err });
        }));
      });
      const seen = await arrived();
      const right = seen.length === 1 && seen[0].credentials === 'ours';
      const asks = !/^(cp|keytool) /.test(line);
      let problem;
      if (code !== 0) problem = `it ended with ${code}: ${said}`;
      else if (asks && !/\b7\b/.test(said)) problem = `it did not print the order: ${said}`;
      else if (asks && !right) problem = `the API saw ${JSON.stringify(seen)}`;
      yield { line, problem };
    }
  }
}
