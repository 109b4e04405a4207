// A machine with a systemd of its own, as machine.sh makes it, and what the rig does on it.
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually, file, folder, track } from '../oidc-provider/rig.mjs';

const SCRIPT = fileURLToPath(new URL('machine.sh', import.meta.url));
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
// Seconds. One that comes up late is no reason to skip.
const PATIENCE = 90;
const NEEDS = [
  'unshare', 'nsenter', 'pgrep', 'setpriv', 'mount', 'ip', 'systemctl', 'systemd-run', 'deb-systemd-helper', 'dpkg',
];

/** Why there can be no such machine here, or nothing. */
export function lacking() {
  if (process.platform !== 'linux' || process.getuid() !== 0) return 'it takes Linux and root';
  const missing = NEEDS.find((tool) => !PATH.split(':').some((place) => existsSync(join(place, tool))));
  if (missing !== undefined) return `${missing} is not installed`;
  if (!existsSync('/lib/systemd/systemd')) return 'systemd is not installed';
  if (existsSync('/etc/bearerd')) return 'bearerd is installed on this machine, and would be on that one';
  return cgroups() === undefined ? 'no cgroup2 is mounted' : undefined;
}

/** Where cgroups of version 2 are mounted, beside those of version 1 or alone. */
function cgroups() {
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n').map((line) => line.split(' '));
  return mounts.find(([, , kind]) => kind === 'cgroup2')?.[1];
}

/** Removes a cgroup and all below it, once nobody is left in it. */
function remove(cgroup) {
  for (const entry of readdirSync(cgroup, { withFileTypes: true })) {
    if (entry.isDirectory()) remove(join(cgroup, entry.name));
  }
  rmdirSync(cgroup);
}

/** Starts the machine; `gifts` is what it sees as /srv/rig. Throws where it does not come up. */
export async function boot(gifts) {
  const own = join(folder, 'machine');
  const cgroup = join(cgroups(), `bearerd-rig-${process.pid}`);
  mkdirSync(own);
  mkdirSync(cgroup);
  const script = 'echo $$ > "$0/cgroup.procs" && exec "$@"';
  const child = spawn('bash', ['-c', script, cgroup, SCRIPT, own, gifts], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  const first = () => {
    try {
      return execFileSync('pgrep', ['-P', `${child.pid}`], { encoding: 'utf8' }).trim().split('\n')[0];
    } catch {
      return undefined;
    }
  };
  const gone = () => {
    for (const deadline = Date.now() + 5_000; Date.now() < deadline;) {
      try {
        return remove(cgroup);
      } catch {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      }
    }
  };
  track(child, () => {
    // The first process takes all the others with it.
    const pid = first();
    if (pid !== undefined) process.kill(Number(pid), 'SIGKILL');
    child.kill('SIGKILL');
    gone();
  });
  let ended = false;
  child.on('exit', () => {
    ended = true;
    gone();
  });
  const pid = await eventually('the machine has a first process', PATIENCE, () => {
    if (ended) throw new Error(`the machine ended: ${said}`);
    const found = first();
    return found !== undefined && readFileSync(`/proc/${found}/comm`, 'utf8').trim() === 'systemd' ? found : undefined;
  });

  /** Runs a script of bash on the machine; resolves to its exit code and what it said. */
  const run = (script, input = '') => new Promise((done) => {
    // A file, which a program can open as /dev/stdin, as it can a terminal; and not the socket that Node would make.
    const typed = openSync(file('typed', input), 'r');
    const args = ['-t', pid, '-m', '-p', '-u', '-i', '-n', '-C', 'env', '-i', `PATH=${PATH}`, 'HOME=/root', 'LANG=C.UTF-8',
      'DEBIAN_FRONTEND=noninteractive', 'bash', '-euo', 'pipefail', '-c', script];
    const running = spawn('nsenter', args, { stdio: [typed, 'pipe', 'pipe'], timeout: 120_000 });
    closeSync(typed);
    const told = { stdout: '', stderr: '', said: '' };
    for (const stream of ['stdout', 'stderr']) {
      running[stream].setEncoding('utf8').on('data', (data) => {
        told[stream] += data;
        told.said += data;
      });
    }
    running.on('close', (code, signal) => done({ code: code ?? signal, ...told }));
  });
  await eventually('the machine is up', PATIENCE, async () => {
    if (ended) throw new Error(`the machine ended: ${said}`);
    return (await run('systemctl is-system-running || true')).stdout.trim() === 'running';
  }).catch(async (error) => {
    const failed = await run('systemctl --failed --no-pager; systemctl list-jobs --no-pager');
    throw new Error(`${error.message}; ${failed.said}; ${said}`);
  });
  return {
    run,
    /** Runs a script that has to succeed, and returns what it said on standard output, without the last line's end. */
    async must(script, input) {
      const { code, stdout, said } = await run(script, input);
      if (code !== 0) throw new Error(`${script}: ${code}: ${said}`);
      return stdout.trimEnd();
    },
    /** Starts a program of this machine's in the other's network; it ends with the rig. */
    inNetwork(...command) {
      return track(spawn('nsenter', ['-t', pid, '-n', ...command], { stdio: ['pipe', 'pipe', 'inherit'] }));
    },
  };
}
