// deploy/compose.yaml as it is: by the library of the compose specification, which knows every key, and then up and running,
// with a provider and an API that no registry is needed for.
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unpacked } from '../oidc-provider/debian.mjs';
import { check, eventually, folder, track } from '../oidc-provider/rig.mjs';
import { done, env, podman, tried } from './podman.mjs';

const FILE = fileURLToPath(new URL('../../deploy/compose.yaml', import.meta.url));
const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'bearerd-rigs');
const SPECIFICATION = 'v2.16.1';
const PODMAN_COMPOSE = '1.6.0';
// The app's image in the file.
const BUSYBOX = 'docker.io/library/busybox:1.37';
const PATIENCE = 120;

/** Docker Compose, which is too much to build for a gate. */
const isDocker = process.env.COMPOSE !== undefined;

/** Runs what takes longer than the rig's other programs, with this process's own environment. */
const slowly = (program, ...args) => tried(program, args, { env: process.env, timeout: 600_000 });

/** The validator of the compose specification, which Docker Compose itself is built on, from the Go module proxy. */
async function specification() {
  const at = join(CACHE, `compose-go-${SPECIFICATION}`);
  if (!existsSync(join(at, 'cmd'))) {
    const options = { env: { ...process.env, GOBIN: at, GOFLAGS: '-mod=mod' }, timeout: 600_000 };
    const { code, stderr } = await tried('go', ['install', `github.com/compose-spec/compose-go/v2/cmd@${SPECIFICATION}`],
      options);
    if (code !== 0) throw new Error(stderr.trim().split('\n').at(-1));
  }
  return join(at, 'cmd');
}

/** What starts it: COMPOSE, which names a `docker-compose`, else podman-compose from PyPI. */
async function runner() {
  if (isDocker) return process.env.COMPOSE;
  const at = join(CACHE, `podman-compose-${PODMAN_COMPOSE}`);
  if (!existsSync(join(at, 'bin/podman-compose'))) {
    const install = [join(at, 'bin/pip'), 'install', '-q', `podman-compose==${PODMAN_COMPOSE}`];
    for (const step of [['python3', '-m', 'venv', at], install]) {
      const { code, stderr } = await slowly(...step);
      if (code !== 0) throw new Error(stderr.trim().split('\n').at(-1));
    }
  }
  return join(at, 'bin/podman-compose');
}

/** Whether `service_healthy` is waited for. */
async function waits() {
  const [major, minor] = (await podman('version', '--format', '{{.Client.Version}}')).split('.').map(Number);
  return isDocker || major > 4 || (major === 4 && minor >= 6);
}

/** An image under the name of the app's, with Debian's busybox in it. */
async function busybox() {
  const { root } = await unpacked('busybox-static', ['busybox-static']);
  const context = join(folder, 'busybox');
  mkdirSync(join(context, 'root/bin'), { recursive: true });
  const program = ['bin/busybox', 'usr/bin/busybox'].map((path) => join(root, path)).find(existsSync);
  copyFileSync(program, join(context, 'root/bin/busybox'));
  for (const name of ['sh', 'wget', 'sleep']) symlinkSync('busybox', join(context, 'root/bin', name));
  writeFileSync(join(context, 'Containerfile'), 'FROM scratch\nCOPY root /\n');
  await done('buildah', 'build', '--isolation', 'chroot', '--tag', BUSYBOX, context);
}

export async function checkSpecification() {
  let validator;
  try {
    validator = await specification();
  } catch (error) {
    console.log(`skipped: the compose specification cannot be had (${error.message})`);
    return;
  }
  const { code, stderr } = await tried(validator, [FILE], { env: { PATH: process.env.PATH, HOME: env.HOME } });
  check('compose: the specification knows every key of the file', code === 0, stderr);
}

/** Brings it up with `volume`, the folders of its configuration and its secret; `hosts` are names beside DNS's. */
export async function checkRunning(tag, volume, hosts, state) {
  let compose;
  try {
    [compose] = [await runner(), await busybox()];
  } catch (error) {
    console.log(`skipped: compose cannot be had (${error.message.split('\n')[0]})`);
    return;
  }
  const at = join(folder, 'compose');
  mkdirSync(at);
  copyFileSync(FILE, join(at, 'compose.yaml'));
  symlinkSync(volume.etc, join(at, 'config'));
  symlinkSync(volume.secrets, join(at, 'secrets'));
  const extra_hosts = Object.entries(hosts).map(([name, address]) => `${name}:${address}`);
  writeFileSync(join(at, 'rig.yaml'), JSON.stringify({ services: { bearerd: { extra_hosts } } }));

  // Where the runner speaks to an engine's socket and not to podman itself.
  const socket = join(folder, 'engine.sock');
  const engine = track(spawn('podman', ['system', 'service', '--time', '0', `unix://${socket}`], { env, stdio: 'ignore' }));
  await eventually('the engine', PATIENCE, () => existsSync(socket));
  const settings = { ...env, BEARERD_IMAGE: tag, DOCKER_HOST: `unix://${socket}`, COMPOSE_PROJECT_NAME: 'rig' };
  const files = ['-f', join(at, 'compose.yaml'), '-f', join(at, 'rig.yaml')];
  const call = (...args) => tried(compose, [...files, ...args], { env: settings, timeout: PATIENCE * 1000, cwd: at });
  const named = async (service) => (await podman('ps', '--all', '--format', '{{.Names}}')).split('\n')
    .find((name) => new RegExp(`^rig[-_]${service}[-_]1$`).test(name));

  state.up = false;
  const begun = state.seen.length;
  const health = async () => {
    const name = await named('bearerd');
    // systemd's timers run health checks for podman; here there may be none, and another run of one harms nobody.
    return name && (await tried('podman', ['healthcheck', 'run', name])).code;
  };
  const checked = async (waiting) => {
    let over = false;
    waiting.finally(() => { over = true; });
    while (!over) await health();
    return waiting;
  };
  const up = call('up', '--detach');
  await eventually('the container of bearerd', PATIENCE, async () => await health() === 1);
  const app = await named('app');
  const started = app && JSON.parse(await podman('container', 'inspect', app))[0].State.Running;
  if (await waits()) check('compose: without a token the app is not started', !started, app);
  else console.log('skipped: podman-compose waits for health with podman 4.6 and later; Docker Compose does with every one');
  check('compose: without a token nothing comes to the API', state.seen.length === begun, state.seen.length - begun);
  state.up = true;
  const { code, stdout, stderr } = await checked(up);
  check('compose: with a token it is', code === 0, stdout + stderr);
  await eventually('a request of the app', PATIENCE, () => state.seen.length > begun).catch(() => {});
  const seen = state.seen.at(-1);
  check('compose: the app reaches the API, with a token',
    seen?.path === '/orders/7' && seen.authorization?.startsWith('Bearer token-'),
    `${JSON.stringify(seen)} ${(await call('logs')).stdout}`);
  const { HostConfig, Config } = JSON.parse(await podman('container', 'inspect', await named('bearerd')))[0];
  check('compose: bearerd has a read-only root and no capability, and gets none',
    HostConfig.ReadonlyRootfs && Config.User === '65532:65532'
    && HostConfig.SecurityOpt.some((option) => option.startsWith('no-new-privileges')), JSON.stringify(HostConfig));

  if (isDocker) {
    const until = state.seen.length;
    const restarted = await checked(call('restart', 'bearerd'));
    await eventually('a request after the restart', PATIENCE, () => state.seen.length > until).catch(() => {});
    check('compose: bearerd restarted, the app is, too, and reaches the API', restarted.code === 0 && state.seen.length > until,
      restarted.stderr);
  }
  const down = await call('down');
  const left = await podman('ps', '--all', '--format', '{{.Names}}');
  check('compose: it goes as it came', down.code === 0 && !/^rig/m.test(left), down.stdout + down.stderr + left);
  engine.kill('SIGTERM');
}
