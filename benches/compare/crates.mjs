// What of this comparison is written in Rust is built here: bearerd itself and the crates beside this file, each with a
// lock file of its own, none a part of bearerd's package. All of it lands in the target folder.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { track } from '../../tests/oidc-provider/rig.mjs';
import { run } from './world.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? at('../../target');

async function cargo(folder, target, program) {
  const args = ['build', '--release', '--locked', '--manifest-path', join(folder, 'Cargo.toml'), '--target-dir', target];
  const building = track(spawn('cargo', [...args, '--bin', program], { stdio: ['ignore', 'inherit', 'inherit'] }));
  const [code] = await once(building, 'exit');
  const path = join(target, 'release', program);
  if (code === 0 && existsSync(path)) return { program: path };
  return { missing: `cargo build in ${folder} failed; its output is above` };
}

/** Builds `benches/compare/NAME`. */
export const crate = (name) => cargo(at(name), join(TARGET, `bench-${name}`), `bench-${name}`);

/** bearerd as it is released, which is static, or the one that BEARERD names. */
export async function bearerdBinary() {
  const named = process.env.BEARERD;
  if (named) return existsSync(named) ? { program: named } : { missing: `BEARERD=${named}: there is no such file` };
  // A linker that does not have it gives the bare name back.
  const library = await run('cc', ['-print-file-name=libc.a']).catch(() => ({ stdout: '' }));
  if (!library.stdout.startsWith('/')) {
    console.error('there is no libc.a: bearerd is linked dynamically, and not what is released');
    return cargo(at('../..'), TARGET, 'bearerd');
  }
  const building = track(spawn(at('../../deploy/build'), ['binary'], { stdio: ['ignore', 'pipe', 'inherit'] }));
  let said = '';
  building.stdout.on('data', (data) => { said += data; });
  const [code] = await once(building, 'close');
  return code === 0 ? { program: said.trim().split('\n').at(-1) } : { missing: 'deploy/build failed; its output is above' };
}

/** Which bearerd that is: of what source, if it was built here, and which bytes. */
export async function identity(program) {
  const git = async (...args) => (await run('git', ['-C', at('../..'), ...args])).stdout.trim();
  const commit = async () => `${await git('rev-parse', 'HEAD')}${await git('status', '--porcelain') ? ', changed' : ''}`;
  const source = process.env.BEARERD ? 'BEARERD, built before' : await commit().catch(() => 'no git');
  return { source, sha256: createHash('sha256').update(readFileSync(program)).digest('hex') };
}
