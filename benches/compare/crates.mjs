// What of this comparison is written in Rust is built here: bearerd itself and the crates beside this file, each with a
// lock file of its own, none a part of bearerd's package. All of it lands in the target folder.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { track } from '../../tests/oidc-provider/rig.mjs';

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

/** bearerd as it is released, or the one that BEARERD names. */
export async function bearerdBinary() {
  const named = process.env.BEARERD;
  if (!named) return cargo(at('../..'), TARGET, 'bearerd');
  return existsSync(named) ? { program: named } : { missing: `BEARERD=${named}: there is no such file` };
}
