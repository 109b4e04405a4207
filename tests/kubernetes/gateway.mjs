// The gateway of k8s/gateway as it stands: its configuration with a real bearerd, certificates made by the lines of its
// README, and the commands of k8s/examples/gateway-client. Paths and ports are others than in a pod, and an HTTP proxy of
// this rig's leads to a provider and an API of this rig's, under the names that stand in the configuration. What must hold:
// callers use their own routes and nothing else, the health port tells a kubelet what it should, and the replacement of a
// replica under load loses nothing.
//
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createProxy } from 'node:http';
import { Agent, createServer, request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bearerd, certificates, check, curl, eventually, file, folder, freePorts, tell } from '../oidc-provider/rig.mjs';

const at = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const read = (path) => readFileSync(at(path), 'utf8');
const BINARY = process.env.BEARERD ?? at('target/debug/bearerd');
const HOST = 'bearerd-gateway.egress.svc';
const CONFIG = read('k8s/gateway/config.yaml');
const DEPLOYMENT = read('k8s/gateway/deployment.yaml');
const PASSWORD = randomBytes(24).toString('base64url');

// Seconds. Long enough to be held while the outage is looked at, short enough to see it end.
const LIFE = 6;
// Until the endpoint of a replica that ends is gone from every node: in a cluster a second or two, and here nearly all of
// `shutdown.delay`.
const ENDPOINT_GONE = 4;

/** The provider and the API, told apart by their names, behind TLS; and the HTTP proxy that leads to them. */
async function world() {
  const state = { away: false, arrivals: [], life: 3_600 };
  const [ca, identity] = await certificates('DNS:id.example.com,DNS:api.example.com');
  const server = createServer(identity, async (request, response) => {
    let body = '';
    for await (const piece of request) body += piece;
    const answer = (status, content) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(content));
    };
    const { host, authorization = '' } = request.headers;
    if (host === 'api.example.com') {
      state.arrivals.push({ url: request.url, authorization, others: request.headers['proxy-authorization'] });
      await sleep(Number(new URL(request.url, 'https://x').searchParams.get('ms') ?? 0));
      return answer(200, { url: request.url });
    }
    const issuer = 'https://id.example.com/realms/main';
    if (state.away) return answer(500, {});
    if (request.method === 'GET') return answer(200, { issuer, token_endpoint: `${issuer}/token` });
    // A client secret is in the header; whose it is becomes part of the token.
    const client = Buffer.from(authorization.replace('Basic ', ''), 'base64').toString().split(':')[0];
    return answer(200, { access_token: `token-of-${client}`, token_type: 'Bearer', expires_in: state.life });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const proxy = createProxy((request, response) => response.writeHead(403).end());
  proxy.on('connect', (request, socket) => {
    const there = connect(server.address().port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      there.pipe(socket).pipe(there);
    });
    for (const end of [there, socket]) end.on('error', () => { there.destroy(); socket.destroy(); });
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  return { state, ca, proxy: `http://127.0.0.1:${proxy.address().port}` };
}

/** The certificates, by the lines that the README has for a trial. */
function trial() {
  const [, lines] = /```sh\n( *openssl req -x509[\s\S]*?)```/.exec(read('k8s/gateway/README.md'));
  const where = join(folder, 'tls');
  mkdirSync(where);
  const run = (script) => execFileSync('bash', ['-euo', 'pipefail', '-c', script], { cwd: where, stdio: 'pipe' });
  run(lines);
  // By the same lines: one that the configuration does not know, and one of another authority.
  const issue = lines.slice(lines.indexOf('issue()'), lines.indexOf('}\n') + 2);
  run(`${issue}issue stranger URI:spiffe://gateway/stranger clientAuth`);
  mkdirSync(join(where, 'other'));
  run(`cd other\n${lines}`);
  return where;
}

/** The variables that the Deployment sets, for the namespace `egress`. */
function environment() {
  const names = [...DEPLOYMENT.matchAll(/- name: (GATEWAY_\w+)\n +value: (.*)$/gm)];
  const values = names.map(([, key, value]) => [key, value.replace('$(NAMESPACE)', 'egress')]);
  return { PATH: process.env.PATH, ...Object.fromEntries(values) };
}

/** A configuration with folders of this rig's where the Deployment has its mounts, and the Secret's files in them. */
function mounted(config, tls, files) {
  const secrets = join(folder, 'secrets');
  mkdirSync(secrets, { recursive: true });
  for (const [key, value] of Object.entries(files)) writeFileSync(join(secrets, key), value);
  return config.replaceAll('/run/secrets/bearerd-tls', tls).replaceAll('/run/secrets/bearerd', secrets);
}

/** What the chart makes of a user's part of a configuration is one. */
async function chart(tls) {
  const golden = read('tests/kubernetes/golden/chart-gateway-own.yaml');
  const [, indented] = /config\.yaml: \|\n((?: {4}.*\n)+)/.exec(golden);
  const text = mounted(indented.replace(/^ {4}/gm, ''), tls, { reports: 'three', 'reports-password': 'four' });
  const run = bearerd(BINARY, ['check', '--config', file('chart.yaml', text)], environment());
  const code = await run.ended;
  check("bearerd takes the configuration that the chart makes of a user's", code === 0, run.output());
}

let started = 0;

/** One replica, with the configuration of the ConfigMap. */
async function replica({ proxy, ca }, tls) {
  const name = `replica ${started += 1}`;
  const [password, certificate, health, admin] = await freePorts(4);
  // What the README has users put into the Secret.
  const secret = { 'invoices-client-secret': 'one', 'jobs-client-secret': 'two', 'billing-password': PASSWORD };
  const mapped = mounted(CONFIG, tls, secret)
    .replaceAll(':8443', `:${password}`).replaceAll(':8444', `:${certificate}`).replaceAll(':4282', `:${health}`)
    .replace(/^( +)(issuer|upstream): .*$/gm, `$&\n$1proxy: ${proxy}\n$1tls: {ca_file: ${ca}}`);
  const config = file(`${name}.yaml`, `${mapped}admin: 127.0.0.1:${admin}\n`);
  const running = bearerd(BINARY, ['run', '--config', config], environment());
  const made = { name, password, certificate, health, running, ended: undefined };
  running.ended.then((code) => { made.ended = code; });
  made.probe = async (path) => {
    const { stdout } = await curl('-o', '/dev/null', '-w', '%{http_code}', `http://127.0.0.1:${health}${path}`);
    return Number(stdout);
  };
  await eventually(`${name} is live`, 20, async () => {
    if (made.ended !== undefined) throw new Error(`${name} ended (${made.ended}): ${running.output()}`);
    return await made.probe('/livez') === 200;
  });
  return made;
}

const ready = (one) => eventually(`${one.name} is ready`, 20, async () => await one.probe('/readyz') === 200);

/** The manifests agree with the configuration, where no schema would notice. */
function agreement() {
  const seconds = (key) => Number(new RegExp(`${key}: (\\d+)s`).exec(CONFIG)[1]);
  const grace = Number(/terminationGracePeriodSeconds: (\d+)/.exec(DEPLOYMENT)[1]);
  const takes = seconds('delay') + seconds('timeout');
  check(`the grace period, ${grace} s, is longer than delay and timeout, ${takes} s`, grace > takes, 'it is not');
  check('the endpoint has a delay to go away in', seconds('delay') > ENDPOINT_GONE, `${seconds('delay')} s`);
  const mounts = [...DEPLOYMENT.matchAll(/mountPath: ([^,]+)/g)].map(([, path]) => path);
  const files = [...CONFIG.matchAll(/(\/run\/[^\s,}]+)/g)].map(([, path]) => path);
  const stray = files.filter((path) => !mounts.some((mount) => path.startsWith(`${mount}/`)));
  check(`each of ${files.length} files is in a mounted folder`, files.length > 5 && stray.length === 0, stray.join());
  const ports = ['8443', '8444', '4282'];
  const places = { Deployment: DEPLOYMENT, configuration: CONFIG, policy: read('k8s/gateway/network-policy.yaml') };
  for (const [place, text] of Object.entries(places)) {
    const lacking = ports.filter((port) => !text.includes(port));
    check(`the ${place} has the ports ${ports.join(', ')}`, lacking.length === 0, lacking.join());
  }
  const uri = /cert_san: (\S+)/.exec(CONFIG)[1];
  const named = read('k8s/gateway/cert-manager/batch.yaml').includes(`["${uri}"]`);
  check("cert-manager's certificate carries the caller's name", named, uri);
}

async function callers(gateway, state, tls) {
  const base = (port) => `https://${HOST}:${port}`;
  const to = [[8443, gateway.password], [8444, gateway.certificate]]
    .flatMap(([port, real]) => ['--connect-to', `${HOST}:${port}:127.0.0.1:${real}`]);
  const trust = ['--cacert', join(tls, 'ca.crt')];
  const shows = (name) => ['--cert', join(tls, `${name}.crt`), '--key', join(tls, `${name}.key`)];
  const billing = ['--user', `billing:${PASSWORD}`];
  const ask = async (...args) => {
    const before = state.arrivals.length;
    const { code, stdout } = await curl(...to, ...trust, '-w', '\n%{http_code} %{http_connect}', ...args);
    const lines = stdout.split('\n');
    const [status, connected] = lines.pop().split(' ').map(Number);
    let reason;
    try { ({ reason } = JSON.parse(lines.join('\n'))); } catch { /* The API's answer, or none. */ }
    return { code, status: status || connected, reason, arrived: state.arrivals.slice(before) };
  };
  const served = async (what, token, ...args) => {
    const { status, arrived } = await ask(...args);
    const [{ authorization, others } = {}] = arrived;
    const once = status === 200 && arrived.length === 1;
    check(`${what}: the API's answer, by the token ${token} alone`,
      once && authorization === `Bearer token-of-${token}` && !others, JSON.stringify({ status, arrived }));
  };
  const refused = async (what, status, reason, ...args) => {
    const got = await ask(...args);
    const so = got.status === status && got.reason === reason && got.arrived.length === 0;
    check(`${what}: ${status} ${reason}`, so, JSON.stringify(got));
  };
  const shut = async (what, ...args) => {
    const got = await ask(...args);
    check(`${what}: no answer`, got.code !== 0 && got.status === 0 && got.arrived.length === 0, JSON.stringify(got));
  };

  await served('billing by password', 'invoices', ...billing, `${base(8443)}/invoices/7`);
  await served('batch by certificate', 'jobs', ...shows('batch'), `${base(8444)}/jobs/7`);
  for (const name of ['bearerd-gateway', `${HOST}.cluster.local`]) {
    await served(`billing by the name ${name}`, 'invoices', ...billing, '-H', `Host: ${name}`, `${base(8443)}/invoices/7`);
  }
  for (const who of ['billing', 'batch']) {
    const text = read(`k8s/examples/gateway-client/${who}.yaml`);
    const netrc = file('netrc', `machine ${HOST} login billing password ${PASSWORD}\n`);
    const [, listed] = /args:\n((?: +- .*\n)+)/.exec(text);
    const args = [...listed.matchAll(/- (.*)$/gm)].map(([, arg]) => (
      arg.replace('/run/secrets/gateway/netrc', netrc).replace('/run/secrets/gateway/ca.crt', join(tls, 'ca.crt'))
        .replace('/run/secrets/gateway/tls', join(tls, 'batch'))));
    await served(`the command of examples/gateway-client/${who}.yaml`, who === 'billing' ? 'invoices' : 'jobs', ...args);
  }

  await refused("billing on batch's route", 403, 'not_allowed', ...billing, `${base(8443)}/jobs/7`);
  await refused("batch on billing's route", 403, 'not_allowed', ...shows('batch'), `${base(8444)}/invoices/7`);
  await refused('a wrong password', 401, 'caller_unknown', '--user', 'billing:wrong', `${base(8443)}/invoices/7`);
  await refused("billing's password as batch", 401, 'caller_unknown', '--user', `batch:${PASSWORD}`, `${base(8443)}/jobs/7`);
  await refused('no password', 401, 'caller_unknown', `${base(8443)}/invoices/7`);
  const unasked = [...shows('batch'), `${base(8443)}/jobs/7`];
  await refused("batch's certificate where passwords count", 401, 'caller_unknown', ...unasked);
  const stranger = [...shows('stranger'), `${base(8444)}/jobs/7`];
  await refused('a certificate of nobody that is known', 401, 'caller_unknown', ...stranger);
  await shut('no certificate', `${base(8444)}/jobs/7`);
  await shut('a password in its place', ...billing, `${base(8444)}/invoices/7`);
  await shut('the same name by another authority', ...shows('other/batch'), `${base(8444)}/jobs/7`);
  await shut("the gateway's own certificate, shown as a client's", ...shows('tls'), `${base(8444)}/jobs/7`);
  const rebound = [...billing, '-H', 'Host: rebind.example', `${base(8443)}/invoices/7`];
  await refused('a Host that is not ours', 421, 'host_not_ours', ...rebound);
  await refused('a path of no route', 404, 'no_route', ...billing, `${base(8443)}/elsewhere`);

  // What `--connect-to` is for URLs, `--resolve` is for a proxy, but for the port.
  const proxied = (...user) => ['--resolve', `${HOST}:${gateway.password}:127.0.0.1`, '--proxy', base(gateway.password),
    '--proxy-cacert', join(tls, 'ca.crt'), ...user];
  const named = proxied('--proxy-user', `billing:${PASSWORD}`);
  await served('billing with the gateway as its proxy', 'invoices', ...named, 'http://api.example.com/invoices/7');
  await refused("billing on batch's route by proxy", 403, 'not_allowed', ...named, 'http://api.example.com/jobs/7');
  await refused('another host by proxy', 403, 'no_route', ...named, 'http://elsewhere.example.com/invoices/7');
  await refused('no password by proxy', 407, 'caller_unknown', ...proxied(), 'http://api.example.com/invoices/7');
  const tunnel = await ask(...named, 'https://api.example.com/invoices/7');
  const closed = tunnel.code !== 0 && tunnel.status === 403 && tunnel.arrived.length === 0;
  check('a tunnel by proxy: 403', closed, JSON.stringify(tunnel));
}

async function outage(place, tls) {
  const { state } = place;
  state.life = LIFE;
  const old = await replica(place, tls);
  await ready(old);
  check('the health port has no status page', await old.probe('/status') === 404, await old.probe('/status'));
  check('it has metrics', await old.probe('/metrics') === 200, await old.probe('/metrics'));
  state.away = true;
  const fresh = await replica(place, tls);
  const over = 'bearerd_token_state{token="jobs",state="expired"} 1';
  await eventually('the old token is over', 3 * LIFE, async () => (
    (await curl(`http://127.0.0.1:${old.health}/metrics`)).stdout.includes(over)));
  const still = await old.probe('/readyz');
  check('provider away, token over: the old replica is ready as ever', still === 200, still);
  for (const [path, status] of [['/startupz', 503], ['/readyz', 503], ['/livez', 200]]) {
    const said = await fresh.probe(path);
    check(`provider away: a new replica says ${status} to ${path}`, said === status, said);
  }
  state.away = false;
  state.life = 3_600;
  await ready(fresh);
  check('the provider is back: the new replica is ready by itself', fresh.ended === undefined, fresh.ended);
  for (const one of [old, fresh]) one.running.kill('SIGINT');
  await Promise.all([old.running.ended, fresh.running.ended]);
}

/**
 * Two replicas one after the other are replaced while apps ask: half of them keep their connections, half open a new one
 * for each request; half have a password, half a certificate. As through a Service, a new connection goes to any endpoint
 * that is there, and the one of a replica that ends is there for some seconds more.
 */
async function rollout(place, tls) {
  const { state } = place;
  const endpoints = [await replica(place, tls), await replica(place, tls)];
  for (const one of endpoints) await ready(one);
  state.arrivals.length = 0;
  const ca = readFileSync(join(tls, 'ca.crt'));
  const [cert, key] = ['crt', 'key'].map((kind) => readFileSync(join(tls, `batch.${kind}`)));
  const lost = [];
  let [asked, quiet, ending, taken] = [0, false, undefined, 0];

  const app = async (number) => {
    const [keeps, isBilling] = [number % 2 === 0, number % 4 < 2];
    const agent = new Agent({ keepAlive: keeps, maxSockets: 1 });
    let there;
    while (!quiet) {
      there = (keeps && there) || endpoints[Math.floor(Math.random() * endpoints.length)];
      const url = `/${isBilling ? 'invoices' : 'jobs'}/${asked += 1}?ms=${number}`;
      const options = isBilling
        ? { port: there.password, auth: `billing:${PASSWORD}` }
        : { port: there.certificate, cert, key };
      try {
        const common = { agent, host: '127.0.0.1', servername: HOST, headers: { host: HOST }, ca, path: url };
        const asking = httpsRequest({ ...common, ...options });
        const answer = await new Promise((come, fail) => asking.on('response', come).on('error', fail).end());
        let body = '';
        for await (const piece of answer) body += piece;
        if (answer.statusCode !== 200 || JSON.parse(body).url !== url) lost.push(`${url}: ${answer.statusCode} ${body}`);
        if (there === ending && !asking.reusedSocket) taken += 1;
        if (answer.headers.connection === 'close') there = undefined;
      } catch (error) {
        lost.push(`${url} on ${there.name}${there === ending ? ', which ends' : ''}: ${error.message}`);
        there = undefined;
      }
    }
    agent.destroy();
  };
  const apps = Promise.all(Array.from({ length: 24 }, (_, number) => app(number)));

  await sleep(1_000);
  for (const old of [...endpoints]) {
    const fresh = await replica(place, tls);
    await ready(fresh);
    endpoints.push(fresh);
    [ending, taken] = [old, 0];
    old.running.kill('SIGTERM');
    await eventually('readiness turns red', 3, async () => await old.probe('/readyz') === 503);
    check(`${old.name} ends: red at once, and live`, await old.probe('/livez') === 200, await old.probe('/livez'));
    await sleep(ENDPOINT_GONE * 1_000);
    endpoints.splice(endpoints.indexOf(old), 1);
    check(`${old.name} took ${taken} new connections meanwhile`, taken > 20, 'too few to tell');
    const how = await Promise.race([old.running.ended, sleep(30_000, 'still running')]);
    check(`${old.name} ended with 0`, how === 0, how);
    const last = old.running.output().slice(-500);
    check(`${old.name} cut nothing off`, last.includes('every exchange was finished'), last);
  }
  await sleep(500);
  quiet = true;
  await apps;
  check(`${asked} requests over the replacement of both replicas: each was answered`, lost.length === 0,
    `${lost.length} were not: ${lost.slice(0, 3).join(' · ')}`);
  const [times, urls] = [state.arrivals.length, new Set(state.arrivals.map(({ url }) => url)).size];
  check('and reached the API once', urls === asked && times === asked, `${urls} of ${asked}, ${times} times`);
  for (const one of endpoints) one.running.kill('SIGINT');
}

async function story() {
  agreement();
  const place = await world();
  const tls = trial();
  await chart(tls);
  const gateway = await replica(place, tls);
  await ready(gateway);
  await callers(gateway, place.state, tls);
  const said = gateway.running.output();
  const kept = !said.includes(PASSWORD) && !said.includes('token-of-');
  check('nothing that it said holds a password or a token', kept, said);
  gateway.running.kill('SIGINT');
  await outage(place, tls);
  await rollout(place, tls);
}

if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}
await tell(story);
