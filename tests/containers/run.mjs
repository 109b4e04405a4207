// The image as users get it, from the folder that it is made of to what a kubelet does with it: what is in it, that it runs
// with nothing granted, who reaches it and who does not, and what it does when its files are swapped under it.
//
// BEARERD names the static binary; the default is where `deploy/build binary` puts it. README.md says how to run it.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { arch, availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { certificates, check, eventually, folder, tell, track } from '../oidc-provider/rig.mjs';
import { checkRunning, checkSpecification } from './compose.mjs';
import { project } from './kubelet.mjs';
import { APP, NETWORK, USR, done, gateway, podman, prepared, tried } from './podman.mjs';
import { world } from './world.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const TRIPLE = `${{ x64: 'x86_64', arm64: 'aarch64' }[arch()]}-unknown-linux-gnu`;
const BINARY = process.env.BEARERD ?? at(`../../target/${TRIPLE}/release/bearerd`);
const MIB = 1 << 20;
// Seconds. Containers are slow to start where others work; what takes longer does not come.
const PATIENCE = 60;
// Of a token, in seconds: short, so that a new secret is soon asked for.
const LIFE = 4;
// What nobody who runs it may need to grant, as Pod Security's `restricted` profile has it; podman would else put a tmpfs on
// /tmp and /run, and write a user table.
const restricted = (user) => [
  '--read-only', '--read-only-tmpfs=false', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', '--passwd=false',
  '--unsetenv', 'HOME', '--memory', '128m', '--memory-swap', '128m', '--pids-limit', '32', '--user', user,
];
const OURS = '65532:65532';
const IMAGE_FILES = ['-rwxr-xr-x 0/0 bearerd', '-rw-r--r-- 0/0 LICENSE'];

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const made = (...path) => {
  mkdirSync(join(folder, ...path), { recursive: true });
  return join(folder, ...path);
};

/** Builds it as `deploy/build image` does, but with the binary that is there; returns the archive and its digest. */
async function built(target) {
  const options = { env: { ...process.env, BEARERD: BINARY, CARGO_TARGET_DIR: target }, cwd: at('../..') };
  const { code, stdout, stderr } = await tried(at('../../deploy/build'), ['image'], options);
  if (code !== 0) throw new Error(`deploy/build image: ${code}: ${stderr}`);
  const [archive, digest] = stdout.trim().split('\n');
  return { archive, digest };
}

async function image() {
  const { archive, digest } = await built(made('first'));
  const again = await built(made('second', 'and', 'elsewhere'));
  check('image: built twice, in two places, it has the same digest', digest === again.digest, `${digest} ${again.digest}`);

  const oci = made('oci');
  await done('tar', '-xf', archive, '-C', oci);
  const blob = (of) => join(oci, 'blobs', ...of.split(':'));
  const index = JSON.parse(readFileSync(join(oci, 'index.json'), 'utf8'));
  check('image: its digest is that of its manifest', index.manifests.map((one) => one.digest).join() === digest,
    JSON.stringify(index));
  const manifest = JSON.parse(readFileSync(blob(digest), 'utf8'));
  check('image: it is an OCI image', manifest.config.mediaType === 'application/vnd.oci.image.config.v1+json',
    JSON.stringify(manifest));
  check('image: it has one layer', manifest.layers.length === 1, manifest.layers.length);
  const layer = blob(manifest.layers[0].digest);
  const listed = (await done('tar', '-tvzf', layer)).split('\n').map((line) => line.split(/ +/));
  const files = listed.map(([mode, owner, , , , name]) => `${mode} ${owner} ${name}`);
  check('image: its files are /bearerd and /LICENSE, of root', files.sort().join() === [...IMAGE_FILES].sort().join(),
    files.join());
  const size = listed.reduce((sum, [, , bytes]) => sum + Number(bytes), 0);
  const packed = statSync(layer).size;
  const told = `${(size / MIB).toFixed(1)} MiB, ${(packed / MIB).toFixed(1)} MiB packed`;
  check(`image: it is at most 15 MiB (${told})`, size <= 15 * MIB, told);
  const unpacked = made('layer');
  await done('tar', '-xzf', layer, '-C', unpacked);
  const content = (name) => readFileSync(join(unpacked, name));
  check('image: its binary is the one that it was given', sha256(content('bearerd')) === sha256(readFileSync(BINARY)),
    'it is another');
  const licences = content('LICENSE').toString();
  const owed = ['bearerd: LICENSE-MIT', 'Apache License', 'GNU LESSER GENERAL PUBLIC LICENSE', 'source package glibc', 'aws-lc-sys',
    'tokio', 'hyper', 'webpki-root', "Rust's standard library"].filter((words) => !licences.includes(words));
  check('image: /LICENSE has ours, those of the crates, and what the GNU C library asks for', owed.length === 0, owed.join());

  const { config, architecture, created } = JSON.parse(readFileSync(blob(manifest.config.digest), 'utf8'));
  check('image: it runs as 65532:65532', config.User === OURS, config.User);
  check('image: it runs `/bearerd run`', `${config.Entrypoint} ${config.Cmd}` === '/bearerd run', JSON.stringify(config));
  check('image: it asks for no port, no volume and no folder', !config.ExposedPorts && !config.Volumes && !config.WorkingDir,
    JSON.stringify(config));
  check('image: it is for this machine', architecture === { x64: 'amd64', arm64: 'arm64' }[arch()], architecture);
  const date = (await done('git', '-C', at('../..'), 'log', '-1', '--format=%ct'));
  check('image: its date is the commit\'s', Date.parse(created) === Number(date) * 1000, created);
  const label = (name) => config.Labels[`org.opencontainers.image.${name}`];
  const lacking = ['title', 'description', 'licenses', 'source', 'version', 'revision'].filter((name) => !label(name));
  check('image: it is labelled', lacking.length === 0, lacking.join());
  const version = (await tried(BINARY, ['--version'])).stdout.trim();
  check('image: its label says the binary\'s version', version === `bearerd ${label('version')}`,
    `${version} ${label('version')}`);
  return { archive, oci, tag: `localhost/bearerd:${label('version')}` };
}

/** What /proc says of a process, by name. */
const status = (pid) => Object.fromEntries(readFileSync(`/proc/${pid}/status`, 'utf8').trim().split('\n')
  .map((line) => line.split(/:\s*/, 2)));
const inspected = async (name) => JSON.parse(await podman('container', 'inspect', name))[0];
const pidOf = async (name) => (await inspected(name)).State.Pid;

/** What it has logged so far, one event each; conmon puts a time, a stream and a mark before each line. */
async function log(name) {
  const { HostConfig } = await inspected(name);
  const lines = () => readFileSync(HostConfig.LogConfig.Path,
    'utf8').split('\n').map((line) => line.split(' ').slice(3).join(' '));
  const events = () => lines().filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  return {
    lines,
    events,
    /** Waits until it has said `event` so many times; returns the last of them. */
    says: (event, times = 1) => eventually(`${name} says ${event}`, PATIENCE, () => {
      const found = events().filter((one) => one.event === event);
      return found.length >= times && found.at(-1);
    }).catch((error) => { throw new Error(`${error.message}:\n${lines().join('\n')}`); }),
  };
}

/** Ends it as a kubelet does, and does something `meanwhile`; returns its exit code, and in how many seconds it ended. */
async function ended(name, meanwhile = async () => {}) {
  const pid = await pidOf(name);
  const begun = performance.now();
  process.kill(pid, 'SIGTERM');
  await meanwhile();
  await eventually(`${name} ends`, PATIENCE, () => !existsSync(`/proc/${pid}`));
  const seconds = (performance.now() - begun) / 1000;
  return { code: Number(await podman('wait', name)), seconds };
}

/** The pod's network, and in it an app that has the machine's curl; the provider and the API; what bearerd is told of them. */
async function stage() {
  const shared = made('shared');
  chmodSync(shared, 0o777);
  const table = join(folder, 'hosts');
  writeFileSync(table, '');
  const common = ['--volume', `${table}:/etc/hosts:ro`];
  await podman('run', '--detach', '--name', 'app', '--network', NETWORK, ...USR, ...common,
    '--volume', `${shared}:/run/bearerd:ro`, APP, 'sleep', 'infinity');
  const { gateway: host, address } = await gateway('app');
  const names = ['api.example.test', 'id.example.test'];
  const [ca, identity] = await certificates(names.map((name) => `DNS:${name}`).join());
  writeFileSync(table, `127.0.0.1 localhost\n::1 localhost\n${names.map((name) => `${host} ${name}\n`).join('')}`);
  const { state, port, stop } = await world(host, identity);
  state.life = LIFE;
  const roots = { tls: { ca_file: '/etc/bearerd/ca.pem' } };
  return {
    host, address, port, shared, state, stop,
    api: `https://api.example.test:${port}`,
    hosts: Object.fromEntries(names.map((name) => [name, host])),
    /** A configuration, as JSON, which is YAML. */
    settings: ({ route = {}, ...more } = {}) => `${JSON.stringify({
      tokens: {
        api: {
          token_url: `https://id.example.test:${port}/token`,
          auth: 'client_secret_post',
          client_id: 'legacy',
          client_secret: { file: '/run/secrets/bearerd/client-secret' },
          ...roots,
        },
      },
      routes: [{ name: 'api', upstream: `https://api.example.test:${port}`, token: 'api', ...roots, ...route }],
      ...more,
    }, null, 2)}\n`,
    configure: (volume, config) => project(volume.etc, { 'config.yaml': config, 'ca.pem': readFileSync(ca, 'utf8') }),
    /** The one secret that the provider takes from now on, in a volume. */
    entrust(volume, secret) {
      state.secrets = new Set([secret]);
      project(volume.secrets, { 'client-secret': `${secret}\n` }, 0o444);
    },
    /** A ConfigMap and a Secret. */
    volumes(name, config, secret) {
      const volume = { etc: join(made(name), 'etc'), secrets: join(made(name), 'secrets') };
      this.configure(volume, config);
      this.entrust(volume, secret);
      return volume;
    },
    mounted: ({ etc, secrets }) => [
      ...common, '--volume', `${etc}:/etc/bearerd:ro`, '--volume', `${secrets}:/run/secrets/bearerd:ro`],
    inApp: (...args) => tried('podman', ['exec', 'app', ...args]),
    async curl(...args) {
      const { code, stdout, stderr } = await this.inApp('curl', '-qsS', '--max-time', '20', '-w', '%{http_code}', '-o',
        '/dev/null', ...args);
      return { is: (wanted) => code === 0 && stdout === wanted, said: `${code} ${stdout} ${stderr}` };
    },
    bearers: () => state.seen.map(({ authorization }) => authorization ?? 'none'),
  };
}

const isToken = (bearer) => /^Bearer token-\d+-\w+$/.test(bearer ?? '');

/** The sidecar of a pod, from its start to its end. */
async function sidecar(tag, on) {
  const { address, api, host, port, shared, state } = on;
  const probe = async (...more) => (await tried('podman', ['exec', 'side', '/bearerd', 'health', ...more])).code;

  // Its provider is away when the pod starts.
  state.up = false;
  const everything = {
    listen: ['localhost:4280', { name: 'socket', address: 'unix:/run/bearerd/app.sock', mode: '0666' }],
    intercept: { ca_dir: '/run/bearerd/ca' },
    route: { intercept: true },
  };
  const volume = on.volumes('pod', on.settings(everything), 'first');
  await podman('run', '--detach', '--name', 'side', '--network', 'container:app', ...restricted(OURS), ...on.mounted(volume),
    '--volume', `${shared}:/run/bearerd`, tag);
  const side = await log('side');
  await side.says('listening');
  check('nothing granted, read-only, no /tmp: it listens', true);
  const pid = await pidOf('side');
  const about = status(pid);
  check('it has no capability, can get none, and its calls are filtered',
    [about.CapEff, about.CapBnd, about.NoNewPrivs,
      about.Seccomp].join() === '0000000000000000,0000000000000000,1,2', JSON.stringify(about));
  check('it is 65532, and PID 1', about.Uid.startsWith('65532\t') && about.NSpid?.split('\t').at(-1) === '1',
    `${about.Uid} ${about.NSpid}`);
  const root = readdirSync(`/proc/${pid}/root`).sort();
  check('its root has nothing of a system', !['bin', 'lib', 'tmp', 'usr', 'var'].some((name) => root.includes(name)),
    root.join());
  check('and no user table', !existsSync(`/proc/${pid}/root/etc/passwd`), 'there is one');

  const lives = await probe();
  check('before the first token: `health` says that it lives', lives === 0, lives);
  const early = await probe('--ready');
  check('before the first token: `health --ready` says no, so the app waits', early === 1, early);
  const without = await on.curl('http://localhost:4280/orders/1');
  check('before the first token: a request gets 503, and the API none', without.is('503') && state.seen.length === 0,
    without.said);
  state.up = true;
  await side.says('ready');
  const ready = await probe('--ready');
  check('with the first token: `health --ready` says yes', ready === 0, ready);

  const inside = await on.curl('http://localhost:4280/orders/1');
  check('an app in the same network reaches the API, with a token', inside.is('200') && isToken(on.bearers().at(-1)),
    inside.said + on.bearers());
  const proxied = await on.curl('--proxy', 'http://localhost:4280', `http://api.example.test:${port}/orders/2`);
  check('and so it does with bearerd as its proxy', proxied.is('200') && isToken(on.bearers().at(-1)),
    proxied.said + on.bearers());
  const before = state.seen.length;
  const outside = (at) => tried('podman',
    ['run', '--rm', '--network', NETWORK, ...USR, APP, 'curl', '-qsS', '--max-time', '20', at]);
  for (const listener of [4280, 4281]) {
    const { code, stderr } = await outside(`http://${address}:${listener}/livez`);
    check(`a container of the same bridge, in a network of its own, is refused at ${listener}`, code === 7,
      `${code} ${stderr}`);
  }
  const reached = await outside(`http://${host}:${port}/`);
  check('although it reaches the API\'s machine', reached.code === 52 || reached.code === 56,
    `${reached.code} ${reached.stderr}`);
  check('and none of that came to the API', state.seen.length === before, on.bearers().join());

  const users = await on.inApp('curl', '--version');
  check('the app is another user', users.code === 0 && status(await pidOf('app')).Uid.startsWith('1001\t'), users.stderr);
  const socket = await on.curl('--unix-socket', '/run/bearerd/app.sock', 'http://localhost/orders/3');
  check('the unix socket in a shared volume: another user reaches the API', socket.is('200') && isToken(on.bearers().at(-1)),
    socket.said);
  const intercepted = await on.curl('--proxy', 'http://localhost:4280', '--cacert', '/run/bearerd/ca/ca.pem',
    `${api}/orders/4`);
  check('interception: with the authority in the shared volume an https:// URL gets a token, too',
    intercepted.is('200') && isToken(on.bearers().at(-1)), intercepted.said);
  const key = await on.inApp('cat', '/run/bearerd/ca/ca.key');
  check('and the authority\'s key is not for another user', key.code === 1 && /denied/.test(key.stderr),
    `${key.code} ${key.stderr}`);
  const { VmRSS, VmHWM, Threads } = status(pid);
  console.log(`      memory after these: ${VmRSS}, at the most ${VmHWM}; ${Threads} threads`);

  // Twice: a watch on a file would see the first swap and be gone with it.
  for (const secret of ['second', 'third']) {
    on.entrust(volume, secret);
    await eventually(`a token for the ${secret} secret`, PATIENCE,
      () => state.asked.at(-1).secret === secret && state.asked.at(-1).isRight);
    check(`a swapped Secret (${secret}): the provider is shown the new one`, true);
    const renewed = await on.curl('http://localhost:4280/orders/5');
    check('and requests go on', renewed.is('200'), renewed.said);
  }
  for (const word of ['one', 'two']) {
    const next = on.settings({ ...everything, route: { intercept: true, headers: { 'X-Word': word } } });
    const times = side.events().filter(({ event }) => event === 'reloaded').length + 1;
    on.configure(volume, next);
    await side.says('reloaded', times);
    const after = await on.curl('http://localhost:4280/orders/6');
    check(`a swapped ConfigMap (${word}) is in force`, after.is('200') && state.seen.at(-1).headers['x-word'] === word,
      after.said);
  }
  check('and it is the same process', await pidOf('side') === pid, await pidOf('side'));

  // As when a kubelet restarts it alone: killed, so nothing was put in order.
  const authority = readFileSync(join(shared, 'ca/ca.pem'), 'utf8');
  process.kill(pid, 'SIGKILL');
  await podman('wait', 'side');
  await podman('start', 'side');
  const { time } = await side.says('ready', 2);
  const { State } = await inspected('side');
  console.log(`      from its start to its first token: ${Math.round(Date.parse(time) - Date.parse(State.StartedAt))} ms`);
  const again = await on.curl('--unix-socket', '/run/bearerd/app.sock', 'http://localhost/orders/7');
  check('killed and started anew, it is where the app looks for it', again.is('200'), again.said);
  check('with the authority that the app trusts', readFileSync(join(shared, 'ca/ca.pem'), 'utf8') === authority,
    'it is another');

  const { code, seconds } = await ended('side');
  check('SIGTERM, as PID 1: it ends with 0 within 2 s', code === 0 && seconds < 2, `${code} after ${seconds} s`);
  console.log(`      that took ${Math.round(seconds * 1000)} ms`);
  check('and its socket is gone', !existsSync(join(shared, 'app.sock')), 'it is there');
  check('it did not panic', !side.lines().some((line) => line.includes('panick')), side.lines().join('\n'));
}

/** Other users, other roots, other limits, no podman. */
async function others(tag, on) {
  const { state } = on;
  // Any user will do, and SSL_CERT_FILE names the roots where the configuration does not.
  const plain = on.settings({ workers: 'auto' }).replaceAll('"ca_file": "/etc/bearerd/ca.pem"', '');
  const other = on.volumes('other', plain, 'fourth');
  await podman('run', '--detach', '--name', 'other', '--network', 'container:app', ...restricted('12345:54321'),
    ...on.mounted(other),
    '--env', 'SSL_CERT_FILE=/etc/bearerd/ca.pem', '--cpus', '1', tag);
  await (await log('other')).says('ready');
  check('another user: it is ready, by the roots of SSL_CERT_FILE', status(await pidOf('other')).Uid.startsWith('12345\t'),
    'who is it?');
  let answer;
  const drained = async () => {
    await sleep(500);
    state.held.splice(0).forEach((go) => go());
    answer = await answer;
  };
  answer = on.curl('http://localhost:4280/slow');
  await eventually('the slow request', PATIENCE, () => state.held.length > 0);
  const drain = await ended('other', drained);
  check('SIGTERM with a request in flight: that is answered, and then it ends with 0', answer.is('200') && drain.code === 0,
    `${answer.said} ${drain.code}`);

  // Without roots that know the provider there is no token, and no other harm.
  const strangers = on.volumes('strangers', plain, 'fourth');
  await podman('run', '--detach', '--name', 'strangers', '--network', 'container:app', ...restricted(OURS),
    ...on.mounted(strangers), tag);
  const { message } = await (await log('strangers')).says('token_failed');
  check('with its own roots, Mozilla\'s, it does not trust a provider that they do not know', /certificate/i.test(message),
    message);
  await podman('rm', '--force', '--time', '0', 'strangers');

  // As root and with a root that could be written to: what it then would write is seen.
  await podman('run', '--detach', '--name', 'open', '--user', '0:0', '--network', 'container:app', ...on.mounted(other),
    '--env', 'SSL_CERT_FILE=/etc/bearerd/ca.pem', tag);
  await (await log('open')).says('ready');
  // But for what podman itself mounts there.
  const written = (await podman('diff', 'open')).split('\n')
    .filter((line) => !/^[AC] \/(etc|run|proc|sys|dev)(\/|$)/.test(line));
  check('where it could write to its root it writes nothing', written.join('') === '', written.join());
  await podman('rm', '--force', '--time', '0', 'open');

  for (const cpus of [1, 2].filter((count) => count <= availableParallelism())) {
    const plan = await podman('run', '--rm', '--cpus', `${cpus}`, ...restricted(OURS), ...on.mounted(other), tag, 'check');
    check(`workers: auto is what the cgroup grants (${cpus})`, plan.includes(`\nworkers: ${cpus}\n`), plan);
  }
  const demo = await tried('podman',
    ['run', '--rm', '--network', 'none', ...restricted(OURS), '--tmpfs', '/tmp', tag, 'demo', '--once']);
  check('the demo runs in it, without a network', demo.code === 0 && demo.stdout.includes('The app got: HTTP/1.1 200 OK'),
    demo.stdout + demo.stderr);
}

/** The image without podman: unpacked by umoci, and run by runc as its bundle says, with a root that is read-only. */
async function bundle(oci, tag, on) {
  const at = join(folder, 'bundle');
  await done('umoci', 'unpack', '--image', `${oci}:${tag}`, at);
  const config = JSON.parse(readFileSync(join(at, 'config.json'), 'utf8'));
  check('runc: the bundle has the image\'s user and program', config.process.user.uid === 65532
    && config.process.args.join(' ') === '/bearerd run', JSON.stringify(config.process));
  const { etc, secrets } = on.volumes('bundled', on.settings(), 'fifth');
  const mount = (source, destination) => ({ source, destination, type: 'bind', options: ['rbind', 'ro'] });
  config.process.terminal = false;
  config.process.noNewPrivileges = true;
  config.process.env = [];
  config.process.capabilities = { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] };
  config.process.rlimits = [];
  config.root.readonly = true;
  config.mounts.push(mount(etc, '/etc/bearerd'), mount(secrets, '/run/secrets/bearerd'),
    mount(join(folder, 'hosts'), '/etc/hosts'));
  // The network of the pod.
  const namespaces = config.linux.namespaces.filter(({ type }) => type !== 'network' && type !== 'user');
  config.linux.namespaces = [...namespaces, { type: 'network', path: `/proc/${await pidOf('app')}/ns/net` }];
  delete config.linux.uidMappings;
  delete config.linux.gidMappings;
  // The mount points have to be there, where nothing may write to the root.
  for (const path of ['etc/bearerd', 'run/secrets/bearerd']) mkdirSync(join(at, 'rootfs', path), { recursive: true });
  writeFileSync(join(at, 'rootfs/etc/hosts'), '');
  writeFileSync(join(at, 'config.json'), JSON.stringify(config));

  const runc = (...args) => ['--root', join(folder, 'runc'), ...args];
  const child = track(spawn('runc', runc('run', '--bundle', at, 'bundle'), { stdio: ['ignore', 'pipe', 'pipe'] }),
    () => execFileSync('runc', runc('delete', '--force', 'bundle'), { stdio: 'ignore' }));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  const exited = once(child, 'close');
  await eventually('bearerd under runc', PATIENCE, () => {
    if (child.exitCode !== null) throw new Error(`runc ended (${child.exitCode}): ${said}`);
    return said.includes('"event":"ready"');
  });
  check('runc: it starts without HOME, without any variable, and is ready', true);
  const probe = await tried('runc', runc('exec', 'bundle', '/bearerd', 'health', '--ready'));
  check('runc: `health --ready` as what runc executes', probe.code === 0, JSON.stringify(probe));
  const asked = await on.curl('http://localhost:4280/orders/8');
  check('runc: the app of the same network reaches the API', asked.is('200') && isToken(on.bearers().at(-1)), asked.said);
  await done('runc', ...runc('kill', 'bundle', 'TERM'));
  const [code] = await exited;
  check('runc: SIGTERM ends it with 0', code === 0, `${code} ${said}`);
}

async function story() {
  await checkSpecification();
  const { archive, oci, tag } = await image();
  await podman('load', '--quiet', '--input', archive);
  const on = await stage();
  await sidecar(tag, on);
  await others(tag, on);
  await bundle(oci, tag, on);
  await checkRunning(tag, on.volumes('composed', on.settings(), 'sixth'), on.hosts, on.state);
  on.stop();
}

if (!existsSync(BINARY)) {
  console.error(`no static bearerd at ${BINARY}: build it first (deploy/build binary), or name it in BEARERD`);
  process.exit(1);
}
try {
  await prepared();
} catch (error) {
  console.log(`skipped: containers cannot run here (${error.message.split('\n')[0]})`);
  process.exit(0);
}
await tell(story);
