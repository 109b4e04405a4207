// Python's packages, in a folder of their own that the next run finds again. Where they cannot be had, the reason.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const venv = fileURLToPath(new URL('.venv', import.meta.url));
const requirements = fileURLToPath(new URL('requirements.txt', import.meta.url));
/** What is installed there, so that another list is installed anew. */
const installed = join(venv, 'installed.txt');

/** `{program}`, an interpreter with all of requirements.txt, or `{missing}`. */
export async function python() {
  const program = join(venv, 'bin/python');
  const wanted = readFileSync(requirements, 'utf8');
  if (existsSync(installed) && readFileSync(installed, 'utf8') === wanted) return { program };
  try {
    rmSync(venv, { recursive: true, force: true });
    await run('python3', ['-m', 'venv', venv]);
    await run(program, ['-m', 'pip', 'install', '--quiet', '--no-input', '-r', requirements], { timeout: 300_000 });
    writeFileSync(installed, wanted);
    return { program };
  } catch (error) {
    const said = error.stderr?.trim().split('\n').at(-1) || error.message;
    return { missing: `its packages cannot be installed: ${said}` };
  }
}
