// Debian's packages, unpacked into a folder of their own and never installed: apt fetches and verifies them, and the
// next run finds them in the cache folder.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'bearerd-rigs');

/**
 * Fetches and unpacks packages into the cache folder `name`; returns it with the environment that its programs need.
 * The error of what cannot be had is the reason to skip the rig.
 */
export async function unpacked(name, packages) {
  const root = join(cache, name);
  if (!existsSync(root)) {
    const making = `${root}.${process.pid}`;
    mkdirSync(join(making, 'debs'), { recursive: true });
    try {
      await run('apt-get', ['download', ...packages], { cwd: join(making, 'debs'), timeout: 60_000 });
      for (const deb of readdirSync(join(making, 'debs'))) {
        await run('dpkg-deb', ['-x', join(making, 'debs', deb), making]);
      }
      rmSync(join(making, 'debs'), { recursive: true });
      renameSync(making, root);
    } catch (error) {
      rmSync(making, { recursive: true, force: true });
      // Another run of this rig may have been quicker.
      if (!existsSync(root)) throw new Error(error.stderr?.trim().split('\n').at(-1) || error.message);
    }
  }
  // Fonts have none.
  const libraries = existsSync(join(root, 'usr/lib')) ? readdirSync(join(root, 'usr/lib')) : [];
  const architecture = libraries.find((name) => name.endsWith('-linux-gnu')) ?? '';
  return { root, env: { PATH: process.env.PATH, LD_LIBRARY_PATH: join(root, 'usr/lib', architecture) } };
}
