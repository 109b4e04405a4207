// k8s/ in a real Kubernetes: what its API server says to each example, what its controllers make of them, and which pods it
// stores. The rig next door (../run.mjs) holds the same files to schemas and rules; here the cluster itself has the word.
//
// README.md says what it costs and how to run it.
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual, promisify } from 'node:util';
import { check, eventually, folder, tell } from '../../oidc-provider/rig.mjs';
import { VERSION, built, cluster, etcd, helm } from './plane.mjs';

const K8S = fileURLToPath(new URL('../../../k8s', import.meta.url));
const POLICY = join(K8S, 'inject/mutating-admission-policy');
const TABLE = fileURLToPath(new URL('../pods', import.meta.url));
const GOLDEN = fileURLToPath(new URL('../golden', import.meta.url));
const EXAMPLES = readdirSync(join(K8S, 'examples')).sort();
// Kinds of others, which have no schema here: ../foreign.txt has one `group/version Kind` a line.
const FOREIGN = readFileSync(new URL('../foreign.txt', import.meta.url), 'utf8').trim().split('\n');
const INJECT = { 'bearerd.dev/inject': 'true' };
// The oldest that an API server of this version says it can be. Its fields, kinds and defaults are those; its code is not.
const OLDEST = '1.33';
const DIGEST = `sha256:${'1'.repeat(64)}`;
const CORE = '/api/v1/namespaces';
// kubectl's second apply calls these configured, though nothing changes: it merges what it applied last, and the API server's
// defaults in lists without a key look like a difference to it.
const RESTLESS = /^(poddisruptionbudget|statefulset)\.\S+ configured$/;

const said = ({ stdout, stderr }) => `${stdout}${stderr}`.trim();
const json = (value) => JSON.stringify(value);
const sidecars = ({ spec }) => [...(spec.initContainers ?? []), ...spec.containers].filter(({ name }) => name === 'bearerd');
const isFirstOfAll = (pod) => pod.spec.initContainers?.[0].name === 'bearerd'
  && pod.spec.initContainers[0].restartPolicy === 'Always' && sidecars(pod).length === 1;

/** A pod as restricted asks for it, which wants bearerd unless `labels` says otherwise. */
function pod(name, { labels = INJECT, annotations, ...spec } = {}) {
  const securityContext = {
    runAsNonRoot: true, runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  };
  const container = (one) => ({ image: 'example.com/app', securityContext, ...one });
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels, annotations },
    spec: {
      automountServiceAccountToken: false,
      ...spec,
      initContainers: spec.initContainers?.map(container),
      containers: (spec.containers ?? [{ name: 'app' }]).map(container),
    },
  };
}

/** The same under a name that the server chooses. */
const another = (more) => ({ ...pod('any', more), metadata: { generateName: 'another-', labels: INJECT } });

/** One workload of each kind that makes pods, out of a pod. */
function workloads({ metadata: { labels }, spec }, own = {}) {
  const template = { metadata: { labels: { app: 'app', ...labels } }, spec };
  const selector = { matchLabels: { app: 'app' } };
  const job = { template: { ...template, spec: { ...spec, restartPolicy: 'Never' } } };
  const one = (apiVersion, kind, body) => ({ apiVersion, kind, metadata: { name: kind.toLowerCase(), labels: own }, spec: body });
  return [
    one('apps/v1', 'Deployment', { selector, template }),
    one('apps/v1', 'StatefulSet', { selector, template, serviceName: 'app' }),
    one('apps/v1', 'DaemonSet', { selector, template }),
    one('batch/v1', 'Job', job),
    one('batch/v1', 'CronJob', { schedule: '0 0 1 1 *', jobTemplate: { spec: job } }),
  ];
}

/** What the story does with a cluster, in its own words. */
function words({ api, kubectl }) {
  const must = async (method, path, body, type) => {
    const { status, body: answer } = await api(method, path, body, type);
    if (status >= 300) throw new Error(`${method} ${path}: ${answer.message ?? json(answer)}`);
    return answer;
  };
  const list = async (path) => (await must('GET', path)).items;
  const pods = (namespace) => list(`${CORE}/${namespace}/pods`);
  /** A namespace whose pods have to keep to the restricted profile; it is made if it is not there. */
  const namespace = (name) => (
    api('POST', CORE, { metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } } }));
  /** No pod can be made before the service account is there. */
  const settled = (name) => eventually(`${name} has a service account`, 20, async () => (
    (await api('GET', `${CORE}/${name}/serviceaccounts/default`)).status === 200));
  return {
    must,
    list,
    pods,
    namespace,
    settled,
    async prepared(name) {
      await namespace(name);
      await settled(name);
    },
    /** What became of a pod: itself as it is stored, or the words by which it is refused. */
    async create(namespace, one) {
      const { status, body } = await api('POST', `${CORE}/${namespace}/pods`, one);
      return status === 201 ? { stored: body } : { refused: body.message };
    },
    /** The pods of a namespace, once each of `owners` (`Deployment/orders`) has some; a controller's refusals fail it. */
    async made(namespace, owners) {
      const owned = async () => {
        const by = new Map();
        const replicaSets = new Map((await list(`/apis/apps/v1/namespaces/${namespace}/replicasets`)).map(({ metadata }) => (
          [metadata.name, metadata.ownerReferences[0]])));
        for (const one of await pods(namespace)) {
          const [owner] = one.metadata.ownerReferences ?? [];
          const top = owner?.kind === 'ReplicaSet' ? replicaSets.get(owner.name) : owner;
          if (top) by.set(`${top.kind}/${top.name}`, one);
        }
        return by;
      };
      let by = new Map();
      await eventually('the pods', 20, async () => {
        by = await owned();
        return owners.every((owner) => by.has(owner));
      }).catch(() => {});
      // A Job that was made by hand surprises its CronJob, and is what podsOf does.
      const troubles = (await list(`${CORE}/${namespace}/events?fieldSelector=type%3DWarning`))
        .filter(({ reason }) => reason !== 'UnexpectedJob');
      const missing = owners.filter((owner) => !by.has(owner));
      const why = troubles.map(({ involvedObject: { kind, name }, message }) => `${kind}/${name}: ${message}`).join('\n      ');
      return { by, missing: missing.length > 0 || troubles.length > 0 ? `${missing.join(' ')}; ${why}` : '' };
    },
    /** `kubectl apply`, to the namespace unless the kustomization brings one of its own. */
    apply: (path, namespace, ...more) => kubectl('apply', '-k', path, ...(namespace ? ['-n', namespace] : []), ...more),
  };
}

/** The namespace that a kustomization gives to all it has, if it does. */
const ownNamespace = (path) => /^namespace: (\S+)$/m.exec(readFileSync(join(path, 'kustomization.yaml'), 'utf8'))?.[1];

/** The workloads in a namespace, those that make pods by themselves and CronJobs apart. */
async function found({ list }, namespace) {
  const names = async (group, plural, kind) => (
    (await list(`/apis/${group}/v1/namespaces/${namespace}/${plural}`)).map(({ metadata }) => `${kind}/${metadata.name}`));
  return {
    makers: [
      ...await names('apps', 'deployments', 'Deployment'), ...await names('apps', 'statefulsets', 'StatefulSet'),
      ...await names('apps', 'daemonsets', 'DaemonSet'),
      ...(await names('batch', 'jobs', 'Job')).filter((name) => !name.endsWith('-now')),
    ],
    cronJobs: (await names('batch', 'cronjobs', 'CronJob')).map((name) => name.slice('CronJob/'.length)),
  };
}

/** All pods of a namespace's workloads; a CronJob does not wait for its hour. */
async function podsOf(at, namespace, kubectl) {
  const { makers, cronJobs } = await found(at, namespace);
  for (const name of cronJobs) await kubectl('create', 'job', `${name}-now`, `--from=cronjob/${name}`, '-n', namespace);
  const owners = [...makers, ...cronJobs.map((name) => `Job/${name}-now`)];
  return { owners, ...await at.made(namespace, owners) };
}

/** The generation of everything in a namespace that has one: it grows with each change that is one. */
async function generations({ list }, namespace) {
  const all = await Promise.all([
    'apps/v1/NS/deployments', 'apps/v1/NS/statefulsets', 'batch/v1/NS/cronjobs', 'batch/v1/NS/jobs',
    'policy/v1/NS/poddisruptionbudgets', 'networking.k8s.io/v1/NS/networkpolicies',
  ].map((path) => list(`/apis/${path.replace('NS', `namespaces/${namespace}`)}`)));
  return all.flat().map(({ metadata: { name, uid, generation } }) => `${name} ${uid} ${generation}`).sort();
}

/** A ConfigMap or key that a pod names and that is not there: the kubelet would wait for it for ever. */
async function lacking({ list }, namespace, pods) {
  const maps = new Map((await list(`${CORE}/${namespace}/configmaps`)).map(({ metadata, data = {} }) => [metadata.name, data]));
  const named = pods.flatMap(({ spec }) => spec.volumes.flatMap(({ configMap }) => configMap ?? []));
  return [...new Set(named.filter(({ name }) => !maps.get(name)?.['config.yaml']).map(({ name }) => name))];
}

/** Each example as a user applies it, again, and with another image. */
async function examples(control) {
  const at = words(control);
  for (const name of EXAMPLES) {
    const path = join(K8S, 'examples', name);
    const own = ownNamespace(path);
    const namespace = own ?? name;
    if (!own) await at.prepared(namespace);
    const first = await at.apply(path, own ? '' : namespace);
    check(`${name}: applied, without a warning`, first.code === 0 && first.stderr === '', said(first));
    await at.settled(namespace);
    const { by, owners, missing } = await podsOf(at, namespace, control.kubectl);
    check(`${name}: its pods are made under the restricted profile`, missing === '' && owners.length > 0, missing);
    const all = [...by.values()];
    const labelled = all.filter(({ metadata }) => metadata.labels?.['bearerd.dev/inject'] === 'true');
    if (labelled.length > 0) {
      check(`${name}: bearerd is first in them, and once`, labelled.every(isFirstOfAll), json(labelled.map(({ spec }) => spec)));
    }
    const absent = await lacking(at, namespace, all);
    check(`${name}: the ConfigMaps that they name are there`, absent.length === 0, absent.join());

    const before = await generations(at, namespace);
    const second = await at.apply(path, own ? '' : namespace);
    const moved = second.stdout.trim().split('\n').filter((line) => !/ unchanged$/.test(line) && !RESTLESS.test(line));
    check(`${name}: applied again, changes nothing`, second.code === 0 && moved.length === 0
      && isDeepStrictEqual(await generations(at, namespace), before), `${moved.join(' · ')} ${second.stderr}`);

    // Another digest of the image, as the README says to upgrade.
    const upgrade = join(folder, `upgrade-${name}`);
    mkdirSync(upgrade);
    const resources = [relative(upgrade, path)];
    const images = [{ name: 'ghcr.io/bearerd/bearerd', digest: DIGEST }];
    writeFileSync(join(upgrade, 'kustomization.yaml'), json({ resources, images }));
    const tried = await at.apply(upgrade, own ? '' : namespace, '--dry-run=server', '-o', 'json');
    const isJob = (await found(at, namespace)).makers.some((maker) => maker.startsWith('Job/'));
    if (isJob) {
      check(`${name}: a Job keeps its image`, tried.code !== 0 && /field is immutable/.test(tried.stderr), said(tried));
    } else {
      const digests = [...tried.stdout.matchAll(/"image": "ghcr\.io\/bearerd\/bearerd@([^"]*)"/g)].map(([, digest]) => digest);
      check(`${name}: another digest is taken`, tried.code === 0 && digests.every((digest) => digest === DIGEST), said(tried));
    }
  }
}

/** The component on one workload of each kind; returns the Deployment's pod. */
async function component(control) {
  const at = words(control);
  await at.prepared('component');
  const app = join(folder, 'component');
  mkdirSync(app);
  const file = (name, content) => writeFileSync(join(app, name), content);
  const all = workloads(pod('any', { labels: {}, initContainers: [{ name: 'migrate' }] }), INJECT);
  for (const one of all) file(`${one.kind}.yaml`, json(one));
  file('config.yaml', 'routes: []');
  file('kustomization.yaml', json({
    resources: all.map(({ kind }) => `${kind}.yaml`),
    components: [relative(app, join(K8S, 'components/sidecar'))],
    configMapGenerator: [{ name: 'bearerd', files: ['config.yaml'], options: { disableNameSuffixHash: true } }],
  }));
  const applied = await at.apply(app, 'component');
  check('component: applied to each kind of workload', applied.code === 0 && applied.stderr === '', said(applied));
  const { by, missing } = await podsOf(at, 'component', control.kubectl);
  check('component: all five make their pods', missing === '' && by.size === 5, missing || [...by.keys()]);
  for (const [owner, one] of by) {
    const names = one.spec.initContainers?.map(({ name }) => name).join();
    check(`component: ${owner} has bearerd first, then its own`, isFirstOfAll(one) && names === 'bearerd,migrate', json(one.spec));
  }
  return by.get('Deployment/deployment');
}

/** The admission policy: what it does to pods, and what the API server says to those that it cannot help. */
async function injection(control, byComponent) {
  const at = words(control);
  await at.prepared('labelled');
  const before = await at.create('labelled', pod('before'));
  check('injection: without the policy a label does nothing', before.stored && sidecars(before.stored).length === 0, json(before));

  const first = await at.apply(POLICY, '');
  check('injection: applied, without a warning', first.code === 0 && first.stderr === '', said(first));
  const second = await at.apply(POLICY, '');
  const moved = second.stdout.trim().split('\n').filter((line) => !/ unchanged$/.test(line) && !RESTLESS.test(line));
  check('injection: applied again, changes nothing', second.code === 0 && moved.length === 0, said(second));
  // The server takes notice of a policy within moments, and says to nobody when.
  await eventually('the policy takes effect', 20, async () => {
    const { stored } = await at.create('labelled', another());
    return stored && sidecars(stored).length > 0;
  });

  await table(control, at);
  const plain = (await at.create('labelled', pod('plain'))).stored;
  const bearerdVolumes = ({ spec }) => spec.volumes.filter(({ name }) => name.startsWith('bearerd-'));
  check('injection: the container is the same as by the component',
    isDeepStrictEqual(plain.spec.initContainers[0], byComponent.spec.initContainers[0])
    && isDeepStrictEqual(bearerdVolumes(plain), bearerdVolumes(byComponent)),
    `${json(plain.spec)}\n      ${json(byComponent.spec)}`);
  const { stored: twice } = await at.create('labelled', { ...pod('twice'), spec: plain.spec });
  check('injection: a pod as it is stored, made once more, does not change', isDeepStrictEqual(twice.spec, plain.spec),
    json(twice.spec));
  const patched = await at.must('PATCH', `${CORE}/labelled/pods/before`, { metadata: { labels: { changed: 'yes' } } },
    'application/merge-patch+json');
  check('injection: a pod that is there already can be changed', sidecars(patched).length === 0, json(patched.spec));
  // The cluster's own plugin, which comes before the policy, is asked again after it.
  const { stored: mounted } = await at.create('labelled', pod('account', { automountServiceAccountToken: true }));
  const paths = mounted.spec.initContainers[0].volumeMounts.map(({ mountPath }) => mountPath);
  check("injection: bearerd has what the pod's other containers have of its service account",
    paths.includes('/var/run/secrets/kubernetes.io/serviceaccount'), paths.join());

  const { stored: federated } = await at.create('labelled', pod('federated', {
    annotations: { 'bearerd.dev/token-audience': 'api://AzureADTokenExchange' },
  }));
  // As the kubelet asks for it.
  const { serviceAccountToken } = federated.spec.volumes.find(({ projected }) => projected).projected.sources[0];
  const { audience, expirationSeconds } = serviceAccountToken;
  const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: 'federated', uid: federated.metadata.uid };
  const granted = await at.must('POST', `${CORE}/labelled/serviceaccounts/default/token`, {
    spec: { audiences: [audience], expirationSeconds, boundObjectRef },
  });
  const claims = JSON.parse(Buffer.from(granted.status.token.split('.')[1], 'base64url'));
  check('injection: the server grants the token that a federated pod asks for, to that audience alone',
    json(claims.aud) === json([audience]) && claims.sub === 'system:serviceaccount:labelled:default'
    && claims.exp - claims.iat === expirationSeconds, json(claims));

  // By what makes pods. Without the label on the workload itself, which only the component asks for.
  await at.prepared('makers');
  for (const one of workloads(pod('any'))) {
    await at.must('POST', `/apis/${one.apiVersion}/namespaces/makers/${one.kind.toLowerCase()}s`, one);
  }
  const { by, missing } = await podsOf(at, 'makers', control.kubectl);
  check('injection: all five kinds of workload make their pods', missing === '' && by.size === 5, missing || [...by.keys()]);
  for (const [owner, one] of by) {
    check(`injection: the pod of ${owner} has bearerd first, and once`, isFirstOfAll(one), json(one.spec));
  }
  const pods = [...await at.pods('labelled'), ...await at.pods('makers')];
  const doubled = pods.filter((one) => sidecars(one).length > 1).map(({ metadata }) => metadata.name);
  check('injection: and none has it twice', doubled.length === 0, doubled.join());
  await control.kubectl('delete', 'pods', '--all', '-n', 'component', '--grace-period=0', '--force');
  const lasting = ['Deployment/deployment', 'StatefulSet/statefulset', 'DaemonSet/daemonset'];
  const { by: anew, missing: still } = await at.made('component', lasting);
  const isRight = (one) => one && isFirstOfAll(one) && one.spec.initContainers.length === 2;
  const wrong = lasting.filter((owner) => !isRight(anew.get(owner)));
  check("injection: the component's pods do not get it a second time", still === '' && wrong.length === 0, still || json(wrong));

  await limits(at);
  await changes(control, at);
}

/** Another image; switched off and on; deleted, and installed anew: each as k8s/inject/README.md says. */
async function changes({ kubectl }, at) {
  const moved = join(folder, 'moved');
  mkdirSync(moved);
  const image = `registry.example.com/bearerd@${DIGEST}`;
  writeFileSync(join(moved, 'kustomization.yaml'), json({
    resources: [relative(moved, POLICY)],
    patches: [{
      target: { kind: 'MutatingAdmissionPolicy|MutatingPolicy' },
      patch: json([
        { op: 'test', path: '/spec/variables/0/name', value: 'image' },
        { op: 'replace', path: '/spec/variables/0/expression', value: json(image) },
      ]),
    }],
  }));
  /** Until a new pod has that image of bearerd's, or none; the server takes notice of a policy within moments. */
  const settles = (expected) => eventually('the policy takes effect', 20, async () => {
    const { stored } = await at.create('labelled', another());
    return stored && sidecars(stored)[0]?.image === expected;
  }).catch(() => false);
  const first = sidecars(await at.must('GET', `${CORE}/labelled/pods/plain`))[0].image;

  await at.apply(moved, '');
  check('changes: another image is taken for new pods', await settles(image), 'it is not');
  const old = await at.must('GET', `${CORE}/labelled/pods/plain`);
  check('changes: and not for those that are there', sidecars(old)[0].image === first, json(old.spec));
  const patched = await at.must('PATCH', `${CORE}/labelled/pods/plain`, {
    spec: { initContainers: [{ name: 'bearerd', image }] },
  }, 'application/strategic-merge-patch+json');
  check("changes: a running pod's image may be changed in its place", sidecars(patched)[0].image === image, json(patched.spec));

  for (const kind of ['mutatingadmissionpolicybinding', 'validatingadmissionpolicybinding']) {
    await kubectl('delete', kind, 'bearerd-injection');
  }
  check('changes: switched off, labelled pods start without bearerd', await settles(undefined), 'they do not');
  await at.apply(moved, '');
  check('changes: and on again, with it', await settles(image), 'they do not');
  const gone = await kubectl('delete', '-k', moved);
  check('changes: all of it is deleted', gone.code === 0 && await settles(undefined), said(gone));
  await at.apply(POLICY, '');
  check('changes: installed anew, it is as at first', await settles(first), 'it is not');
  await kubectl('delete', '-k', POLICY);
}

/**
 * The pods of the rig next door, which runs the same policies in the API server's engine alone. What it says that comes of them
 * (golden/injected-*) has to be what is stored here, and to be left alone.
 */
async function table(control, at) {
  await at.must('POST', CORE, { metadata: { name: 'open' } });
  await at.settled('open');
  for (const namespace of ['labelled', 'open']) {
    await at.must('POST', `${CORE}/${namespace}/serviceaccounts`, { metadata: { name: 'orders' } });
    // A mount of its token is none of the table's business, and has a name by chance.
    for (const name of ['orders', 'default']) {
      await at.must('PATCH', `${CORE}/${namespace}/serviceaccounts/${name}`, { automountServiceAccountToken: false },
        'application/merge-patch+json');
    }
  }
  const attempt = async (path, namespace, how) => {
    const tried = await control.kubectl('create', '-f', path, '-n', namespace, `--dry-run=${how}`, '-o', 'json');
    return tried.code === 0 ? { made: JSON.parse(tried.stdout) } : { refused: tried.stderr };
  };
  const names = (list) => (list ?? []).map(({ name }) => name);
  for (const file of readdirSync(TABLE).sort()) {
    const path = join(TABLE, file);
    const name = file.replace(/\.yaml$/, '');
    const [, outcome, reason] = /^# (injected|left alone|refused)(?:: (.*))?/.exec(readFileSync(path, 'utf8'));
    const { made: written } = await attempt(path, 'labelled', 'client');
    // Some of those that are left alone do not keep to restricted.
    const namespace = outcome === 'left alone' ? 'open' : 'labelled';
    const { made, refused } = await attempt(path, namespace, 'server');
    if (outcome === 'refused') {
      check(`table: ${name} is refused, and told why`, refused?.includes(reason), refused ?? json(made));
      continue;
    }
    if (made === undefined) {
      check(`table: ${name} is taken`, false, refused);
    } else if (outcome === 'left alone') {
      check(`table: ${name} is left alone`, json(names(made.spec.initContainers)) === json(names(written.spec.initContainers))
        && json(names(made.spec.volumes)) === json(names(written.spec.volumes)), json(made.spec));
    } else {
      const own = names(written.spec.initContainers);
      check(`table: ${name} has bearerd first, and once`, isFirstOfAll(made)
        && json(names(made.spec.initContainers)) === json(['bearerd', ...own]), json(made.spec));
      const { made: same, refused: why } = await attempt(join(GOLDEN, `injected-${file}`), namespace, 'server');
      check(`table: ${name} is what the engine alone makes of it, and is left alone`,
        isDeepStrictEqual(same?.spec, made.spec), `${why ?? json(same?.spec)}\n      ${json(made.spec)}`);
    }
  }
}

/** What a namespace's own limits make of the container. */
async function limits(at) {
  const all = { 'requests.cpu': '4', 'requests.memory': '4Gi', 'limits.memory': '4Gi' };
  const quota = async (namespace, hard) => {
    await at.prepared(namespace);
    await at.must('POST', `${CORE}/${namespace}/resourcequotas`, { metadata: { name: 'quota' }, spec: { hard } });
    // Until the controller has counted, it is not enforced.
    await eventually('the quota is counted', 20, async () => (
      (await at.must('GET', `${CORE}/${namespace}/resourcequotas/quota`)).status.hard));
  };
  const resources = { requests: { cpu: '1', memory: '1Gi' }, limits: { cpu: '1', memory: '1Gi' } };
  const app = { containers: [{ name: 'app', resources }] };
  await quota('quota', all);
  const within = await at.create('quota', pod('app', app));
  check('limits: a quota of requests and memory is kept to', within.stored && isFirstOfAll(within.stored), within.refused);
  const used = await eventually('the pod is counted', 20, async () => (
    (await at.must('GET', `${CORE}/quota/resourcequotas/quota`)).status.used));
  check('limits: and counts the container', used['requests.cpu'] === '1010m' && used['limits.memory'] === '1280Mi', json(used));
  await quota('quota-cpu', { ...all, 'limits.cpu': '4' });
  const { refused } = await at.create('quota-cpu', pod('app', app));
  check('limits: a quota of CPU limits refuses it, having none', /must specify limits\.cpu for: bearerd/.test(refused), refused);
  await at.must('POST', `${CORE}/quota-cpu/limitranges`, {
    metadata: { name: 'defaults' }, spec: { limits: [{ type: 'Container', default: { cpu: '500m' } }] },
  });
  const defaulted = await eventually('the LimitRange takes effect', 20, async () => (
    (await at.create('quota-cpu', another(app))).stored));
  check('limits: but for a LimitRange that gives one', defaulted.spec.initContainers[0].resources.limits.cpu === '500m'
    && defaulted.spec.initContainers[0].resources.requests.cpu === '10m', json(defaulted.spec.initContainers[0].resources));
}

/** The oldest Kubernetes that this one can be: no policy that mutates there, and every example by the server's own merge. */
async function older(control) {
  const at = words(control);
  await stubs(at);
  for (const name of EXAMPLES) {
    const path = join(K8S, 'examples', name);
    const own = ownNamespace(path);
    const namespace = own ?? name;
    if (!own) await at.namespace(namespace);
    const apply = () => at.apply(path, own ? '' : namespace, '--server-side');
    const first = await apply();
    const before = await generations(at, namespace);
    const second = await apply();
    const isSilent = first.code === 0 && second.code === 0 && first.stderr === '' && second.stderr === '';
    check(`as ${OLDEST}: ${name}: applied by the server's own merge, and again`,
      isSilent && isDeepStrictEqual(await generations(at, namespace), before), said(first) + said(second));
  }
  const { makers } = await found(at, 'localhost');
  const { spec } = await at.must('GET', '/apis/apps/v1/namespaces/localhost/deployments/orders');
  const [first] = spec.template.spec.initContainers;
  check(`as ${OLDEST}: a sidecar stays one`, makers.length === 1 && first.restartPolicy === 'Always', json(spec));
  const refused = await at.apply(POLICY, '');
  check(`as ${OLDEST}: the admission policy is refused by its kind`,
    refused.code !== 0 && /no matches for kind "MutatingAdmissionPolicy"/.test(refused.stderr), said(refused));
  // Here Kyverno is a name, and nobody to mutate anything.
  const kyverno = await at.apply(join(K8S, 'inject/kyverno'), '');
  check(`as ${OLDEST}: Kyverno's is taken`, kyverno.code === 0 && kyverno.stderr === '', said(kyverno));
  await at.must('POST', `${CORE}/localhost/serviceaccounts`, { metadata: { name: 'default' } });
  const guarded = await eventually('the guard takes effect', 20, async () => {
    const one = await at.create('localhost', another());
    return one.refused && one;
  });
  check(`as ${OLDEST}: a labelled pod that nobody injects is refused, not left without`,
    /bearerd\.dev\/inject asks for a container bearerd/.test(guarded.refused), guarded.refused);
  const { stored } = await at.create('localhost', pod('unlabelled', { labels: {} }));
  check(`as ${OLDEST}: and others are none the worse`, stored !== undefined, 'refused');
}

/** The policy where it is of a beta version, and needs two flags; with one of them alone it does nothing, and the guard says so. */
async function beta(program) {
  // As 1.35 the server would not serve the stable version, by which its own plugin looks for policies; that of then looked for
  // the beta version.
  const served = ['--runtime-config=admissionregistration.k8s.io/v1beta1=true', '--emulation-forward-compatible=true'];
  for (const [name, flags] of [['both', ['--feature-gates=MutatingAdmissionPolicy=true', ...served]], ['one', served]]) {
    const control = await cluster(program, { name, version: '1.35', flags, hasControllers: false });
    const at = words(control);
    const ours = join(folder, `beta-${name}`);
    mkdirSync(ours);
    // As k8s/inject/README.md has it.
    writeFileSync(join(ours, 'kustomization.yaml'), json({
      resources: [relative(ours, POLICY)],
      patches: [{
        target: { kind: 'MutatingAdmissionPolicy|MutatingAdmissionPolicyBinding' },
        patch: json([{ op: 'replace', path: '/apiVersion', value: 'admissionregistration.k8s.io/v1beta1' }]),
      }],
    }));
    const applied = await at.apply(ours, '');
    check(`as 1.35, ${name} of the flags: the policy is taken`, applied.code === 0, said(applied));
    await at.namespace('labelled');
    await at.must('POST', `${CORE}/labelled/serviceaccounts`, { metadata: { name: 'default' } });
    const isAsExpected = ({ stored, refused }) => (
      name === 'both' ? stored && isFirstOfAll(stored) : /no policy has put one in/.test(refused ?? ''));
    let last;
    await eventually('the policy takes effect', 20, async () => {
      last = await at.create('labelled', another());
      return isAsExpected(last);
    }).catch(() => {});
    const what = name === 'both' ? 'pods get bearerd' : 'labelled pods are refused, since nothing injects';
    check(`as 1.35, ${name} of the flags: ${what}`, isAsExpected(last), json(last));
    control.stop();
  }
}

/** The chart, as Helm installs it: by way of the API server, which keeps the release as well. */
async function chart(control) {
  const at = words(control);
  const program = await helm();
  const env = { PATH: process.env.PATH, HOME: folder, KUBECONFIG: control.kubeconfig };
  const run = (...args) => promisify(execFile)(program, [...args, '--namespace', 'chart'], { env, maxBuffer: 1 << 26 })
    .then((good) => ({ code: 0, ...good }), (error) => ({ stdout: '', stderr: error.message, ...error }));
  await at.prepared('chart');
  await at.prepared('labelled');
  // What it says in the checkout is of its symbolic links.
  const errors = ({ stderr }) => stderr.split('\n').filter((line) => line !== '' && !/symbolic link/.test(line));
  for (const values of readdirSync(join(K8S, 'chart/ci')).sort()) {
    const args = [join(K8S, 'chart'), '--values', join(K8S, 'chart/ci', values)];
    const installed = await run('install', 'bearerd', ...args);
    check(`chart: ${values} is installed`, installed.code === 0 && errors(installed).length === 0, said(installed));
    const { makers } = await found(at, 'chart');
    const { missing } = await at.made('chart', makers);
    check(`chart: ${values} makes its pods under the restricted profile`, missing === '', missing);
    if (values === 'injection.yaml') {
      let last;
      await eventually('the policy takes effect', 20, async () => {
        last = await at.create('labelled', another());
        return last.stored && isFirstOfAll(last.stored);
      }).catch(() => {});
      check(`chart: ${values} has pods injected`, last.stored && isFirstOfAll(last.stored), json(last));
    }
    const before = await generations(at, 'chart');
    const upgraded = await run('upgrade', 'bearerd', ...args);
    check(`chart: ${values} upgraded to itself changes nothing`,
      upgraded.code === 0 && isDeepStrictEqual(await generations(at, 'chart'), before), said(upgraded));
    const gone = await run('uninstall', 'bearerd');
    check(`chart: ${values} is uninstalled`, gone.code === 0 && (await found(at, 'chart')).makers.length === 0, said(gone));
  }
}

/** Definitions that take whatever is written, for the kinds of others. */
async function stubs({ must }) {
  for (const line of FOREIGN) {
    const [, group, version, kind] = /^(\S+)\/(\S+) (\S+)$/.exec(line);
    const plural = kind.toLowerCase().replace(/(s?)(y?)$/, (_, s, y) => (s ? 'ses' : y ? 'ies' : 's'));
    // A group of *.k8s.io has to name who approved of it.
    const annotations = { 'api-approved.kubernetes.io': 'https://github.com/kubernetes-sigs/secrets-store-csi-driver' };
    const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
    await must('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: `${plural}.${group}`, annotations },
      spec: {
        group,
        scope: kind === 'MutatingPolicy' ? 'Cluster' : 'Namespaced',
        names: { kind, plural },
        versions: [{ name: version, served: true, storage: true, schema }],
      },
    });
  }
  await eventually('the definitions are served', 20, async () => (
    (await must('GET', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions')).items.every(({ status }) => (
      status.conditions?.some(({ type, status: is }) => type === 'Established' && is === 'True')))));
}

async function story(program) {
  const store = etcd(program);
  const own = await cluster(program);
  const at = words(own);
  console.log(`      Kubernetes ${VERSION}`);
  await stubs(at);
  // For the DaemonSets. Nobody lives there, which the server suspects: its taint would keep pods away.
  await at.must('POST', '/api/v1/nodes', { metadata: { name: 'nobody' } });
  await at.must('PATCH', '/api/v1/nodes/nobody', { spec: { taints: null } }, 'application/merge-patch+json');
  await at.settled('default');
  await examples(own);
  const deployed = await component(own);
  await injection(own, deployed);
  await chart(own);
  own.stop();
  const oldest = await cluster(program, { name: 'oldest', version: OLDEST, hasControllers: false });
  await older(oldest);
  oldest.stop();
  await beta(program);
  check('etcd lives', store.ended === undefined, store.ended);
}

let program;
try {
  program = await built();
} catch (error) {
  console.log(`skipped: Kubernetes cannot be built (${error.message.split('\n').slice(0, 3).join(' ')})`);
  process.exit(0);
}
await tell(() => story(program));
