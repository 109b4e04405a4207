// podman, buildah and runc with a store, a network and settings of their own, all of which are gone when the rig ends; and an
// image for the apps, whose /usr is this machine's, since no registry is to be needed.
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { folder } from '../oidc-provider/rig.mjs';

const run = promisify(execFile);

const at = join(folder, 'podman');
const made = (name) => {
  mkdirSync(join(at, name), { recursive: true });
  return join(at, name);
};

/** As many as this process may have, up to a point. Where nobody says so podman asks for more, which not everybody is granted. */
function limits() {
  const all = readFileSync('/proc/self/limits', 'utf8');
  const most = (name) => Math.min(4096, Number(new RegExp(`^${name} +\\S+ +(\\d+)`, 'm').exec(all)?.[1] ?? 4096));
  return [`nofile=${most('Max open files')}:${most('Max open files')}`,
    `nproc=${most('Max processes')}:${most('Max processes')}`];
}

writeFileSync(join(made('.'), 'storage.conf'), `[storage]
driver = "vfs"
graphroot = "${made('store')}"
runroot = "${made('run')}"
`);
writeFileSync(join(at, 'containers.conf'), `[containers]
default_ulimits = [${limits().map((one) => `"${one}"`).join(', ')}]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "${made('tmp')}"
volume_path = "${made('volumes')}"
[network]
network_config_dir = "${made('networks')}"
`);

/** With this in its environment, what uses podman uses ours. */
export const env = {
  PATH: process.env.PATH,
  HOME: made('home'),
  CONTAINERS_CONF: join(at, 'containers.conf'),
  CONTAINERS_STORAGE_CONF: join(at, 'storage.conf'),
};

/** Runs a program to its end; `code` is 0 if it went well. Never throws. */
export async function tried(program, args, options = {}) {
  try {
    const { stdout, stderr } = await run(program, args, { env, timeout: 120_000, maxBuffer: 1 << 28, ...options });
    return { code: 0, stdout, stderr };
  } catch (error) {
    return { code: error.code ?? error.signal, stdout: error.stdout ?? '', stderr: error.stderr || error.message };
  }
}

/** The same for what has to go well; returns what it said on standard output. */
export async function done(program, ...args) {
  const { code, stdout, stderr } = await tried(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${code}: ${stderr}${stdout}`);
  return stdout.trim();
}

export const podman = (...args) => done('podman', ...args);

let hasRun = false;
// Before the folder goes, which the rig sees to.
process.prependListener('exit', () => {
  if (!hasRun) return;
  // What runs ends, and what was mounted is unmounted.
  const quietly = (...args) => {
    try {
      execFileSync('podman', args, { env, stdio: 'ignore', timeout: 60_000 });
    } catch {
      // There was nothing left, or nothing to be done about it.
    }
  };
  quietly('kill', '--all');
  quietly('rm', '--all', '--force', '--time', '0');
  // Again for those whose network another was in, which podman does not remove before that one.
  quietly('rm', '--all', '--force', '--time', '0');
  quietly('volume', 'rm', '--all', '--force');
  // Compose's, too.
  quietly('network', 'prune', '--force');
});

/** The apps' image: a root whose /usr is to be mounted. */
export const APP = 'localhost/app:1';
export const USR = ['--volume', '/usr:/usr:ro'];
export const NETWORK = 'bearerd-rig';

/** Sees to it that containers run here at all. The error of what does not is the reason to skip the rig. */
export async function prepared() {
  if (process.getuid() !== 0) throw new Error('it takes root');
  // At the end everything in the store is removed, so a podman that does not heed `env` must not come that far.
  const store = await podman('info', '--format', '{{.Store.GraphRoot}}');
  if (store !== join(at, 'store')) throw new Error(`podman has a store of its own, ${store}`);
  const context = made('app');
  mkdirSync(join(context, 'root/usr'), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(context, 'root', name));
  writeFileSync(join(context, 'Containerfile'), 'FROM scratch\nCOPY root /\nUSER 1001:1001\n');
  await done('buildah', 'build', '--isolation', 'chroot', '--tag', APP, context);
  hasRun = true;
  await podman('network', 'create', NETWORK);
  await podman('run', '--rm', ...USR, '--network', NETWORK, APP, 'true');
}

/** The address by which containers of the network reach this machine. */
export async function gateway(container) {
  const { NetworkSettings } = JSON.parse(await podman('container', 'inspect', container))[0];
  const { Gateway, IPAddress } = NetworkSettings.Networks[NETWORK];
  return { gateway: Gateway, address: IPAddress };
}
