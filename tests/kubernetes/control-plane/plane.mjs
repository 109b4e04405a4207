// A Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager, built from source by main.go, and
// kubectl to talk to them. No scheduler and no kubelet: pods are made, judged and stored, and then wait for a node for ever.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, openSync, readFileSync } from 'node:fs';
import { request } from 'node:https';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { certificates, eventually, file, folder, freePorts, track } from '../../oidc-provider/rig.mjs';

const run = promisify(execFile);
const HERE = fileURLToPath(new URL('.', import.meta.url));
// Found again by the next run, of any checkout.
const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'bearerd-rigs');
const TOKEN = 'the-rig';
// Those that turn one object into another, and what they need. Not those that look after nodes, of which there are none.
const CONTROLLERS = [
  'deployment', 'replicaset', 'statefulset', 'daemonset', 'job', 'cronjob', 'namespace', 'serviceaccount', 'resourcequota',
].map((name) => `${name}-controller`).join();

/** The Kubernetes that go.mod pins, such as `v1.36.3`. */
export const VERSION = /k8s\.io\/kubernetes (v\S+)/.exec(readFileSync(join(HERE, 'go.mod'), 'utf8'))[1];

/** Builds the program, unless an earlier run did from the same sources. Minutes, for the first time. */
export async function built() {
  const sources = ['main.go', 'go.mod', 'go.sum'].map((name) => readFileSync(join(HERE, name)));
  const hash = sources.reduce((all, one) => all.update(one), createHash('sha256')).digest('hex').slice(0, 12);
  const program = join(CACHE, `control-plane-${VERSION}-${hash}`);
  if (!existsSync(program)) {
    const flags = `-s -w -X k8s.io/component-base/version.gitVersion=${VERSION}`;
    await run('go', ['build', '-trimpath', '-ldflags', flags, '-o', `${program}.new`, '.'], { cwd: HERE, maxBuffer: 1 << 26 });
    await run('mv', [`${program}.new`, program]);
  }
  return program;
}

/** Helm, as ../go.mod pins it; Go builds only what is not in its cache. */
export async function helm() {
  const program = join(CACHE, 'helm');
  await run('go', ['build', '-o', program, 'helm.sh/helm/v4/cmd/helm'], { cwd: join(HERE, '..') });
  return program;
}

/** Starts one of the program's roles; what it says goes to a file, whose end is shown if it ends too soon. */
function begin(program, role, name, args) {
  const log = join(folder, `${name}.log`);
  const out = openSync(log, 'w');
  // The folder is etcd's as well, whose socket has a relative path: an absolute one can be longer than sockets may have.
  const child = track(spawn(program, [role, ...args], { cwd: folder, stdio: ['ignore', out, out] }));
  child.on('exit', () => { child.ended = `${role} ended: ${readFileSync(log, 'utf8').slice(-2_000)}`; });
  return child;
}

/** One etcd, which several API servers may share. Without fsync: nothing here outlives the run. */
export function etcd(program) {
  return begin(program, 'etcd', 'etcd', [
    '--data-dir=etcd', '--unsafe-no-fsync', '--log-level=error', '--listen-client-urls=unix://etcd.sock:0',
    '--advertise-client-urls=unix://etcd.sock:0', '--listen-peer-urls=unix://peers.sock:0',
  ]);
}

/**
 * An API server under a name of its own in etcd, as `version` if one is given (1.35), with further flags, and with its
 * controllers unless they are not wanted. It answers by `kubectl` and `api`, until `stop`, which frees half a gigabyte.
 */
export async function cluster(program, { name = 'own', version, flags = [], hasControllers = true } = {}) {
  if (!existsSync(join(folder, 'ca.pem'))) {
    const [, identity] = await certificates('IP:127.0.0.1');
    file('api.pem', identity.cert);
    file('api.key', identity.key);
    file('tokens.csv', `${TOKEN},rig,rig,system:masters\n`);
    await run('openssl', ['genrsa', '-out', join(folder, 'accounts.key'), '2048']);
  }
  const [port] = await freePorts(1);
  const kubeconfig = file(`kubeconfig-${name}`, JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'rig',
    clusters: [{ name: 'rig', cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority': join(folder, 'ca.pem') } }],
    users: [{ name: 'rig', user: { token: TOKEN } }],
    contexts: [{ name: 'rig', context: { cluster: 'rig', user: 'rig' } }],
  }));
  const server = begin(program, 'kube-apiserver', `kube-apiserver-${name}`, [
    '--etcd-servers=unix://etcd.sock:0', `--etcd-prefix=/${name}`, '--bind-address=127.0.0.1', `--secure-port=${port}`,
    // No pod has to find it, so it need not enter itself as the Service `kubernetes`, which it cannot at a loopback address.
    '--endpoint-reconciler-type=none', `--cert-dir=${folder}`, '--tls-cert-file=api.pem', '--tls-private-key-file=api.key',
    '--token-auth-file=tokens.csv', '--authorization-mode=RBAC', '--service-cluster-ip-range=10.96.0.0/16',
    '--service-account-issuer=https://kubernetes.default.svc', '--service-account-key-file=accounts.key',
    '--service-account-signing-key-file=accounts.key', ...(version ? [`--emulated-version=${version}`] : []), ...flags,
  ]);

  const ca = readFileSync(join(folder, 'ca.pem'));
  const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
  /** One call of the API: the answer's status and body, which is parsed if it is JSON, and the warnings that came with it. */
  const api = (method, path, body, type) => new Promise((done, failed) => {
    const options = { method, ca, host: '127.0.0.1', port, path, headers: { ...headers, ...(type && { 'content-type': type }) } };
    request(options, async (response) => {
      let text = '';
      for await (const piece of response.setEncoding('utf8')) text += piece;
      const isJson = response.headers['content-type']?.startsWith('application/json');
      done({ status: response.statusCode, body: isJson ? JSON.parse(text) : text, warning: response.headers.warning });
    }).on('error', failed).end(body && JSON.stringify(body));
  });
  /** kubectl's exit code and what it said on both streams. */
  const kubectl = (...args) => new Promise((done) => {
    const env = { PATH: process.env.PATH, HOME: folder, KUBECONFIG: kubeconfig };
    execFile(program, ['kubectl', ...args], { env, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      done({ code: error?.code ?? 0, stdout, stderr });
    });
  });

  await eventually('the API server is ready', 120, async () => {
    if (server.ended) throw new Error(server.ended);
    return (await api('GET', '/readyz').catch(() => {}))?.status === 200;
  });
  const started = [server];
  if (hasControllers) {
    started.push(begin(program, 'kube-controller-manager', `kube-controller-manager-${name}`, [
      `--kubeconfig=${kubeconfig}`, `--controllers=${CONTROLLERS}`, '--leader-elect=false', '--secure-port=0',
      '--use-service-account-credentials=false', `--service-account-private-key-file=${join(folder, 'accounts.key')}`,
    ]));
  }
  const stop = () => started.forEach((child) => child.kill('SIGKILL'));
  return { api, kubectl, kubeconfig, stop };
}
