// bearerd from outside: the built binary between real curl processes and an API that verifies every token, with a
// certified OpenID provider behind. What this adds to the tests in Rust is that nothing in it is ours but bearerd:
// TLS, OAuth, JWTs and HTTP clients are other people's, so a misreading of a standard cannot cancel itself out.
//
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bearerd, certificates, curl, eventually, file, freePorts, serve } from './rig.mjs';

const BINARY = process.env.BEARERD ?? fileURLToPath(new URL('../../target/debug/bearerd', import.meta.url));
// Every character that the two encodings of credentials (form in Basic, form in the body) are known to disagree on.
const SECRET = 'p+a/s%s:w=r d&~"x';
// Without the slash that URL libraries like to append.
const RESOURCE = 'https://api.test';
const UPLOAD = randomBytes(300 * 1024);
// Short enough for three renewals in a quarter of a minute.
const LIFE = 6;

const secretFile = file('secret', SECRET);
const uploadFile = file('upload', UPLOAD);

let passed = 0;
let failed = 0;
function check(what, good, detail) {
  if (good) passed += 1;
  else failed += 1;
  console.log(good ? `ok    ${what}` : `FAIL  ${what}: ${detail}`);
}

// Each sidecar is a client of its own, so that its token requests can be counted, and has a path of its own.
const sidecars = [
  { name: 'basic-file', auth: 'client_secret_basic', configure: byFile, life: LIFE },
  { name: 'basic-env', auth: 'client_secret_basic', configure: byEnvironment, life: LIFE },
  { name: 'post-file', auth: 'client_secret_post', configure: byFile, life: LIFE },
  { name: 'post-env', auth: 'client_secret_post', configure: byEnvironment, life: LIFE },
  // Renewal is due after a quarter of the life: early enough that the provider can be away for seconds around it, and
  // back long before the token in hand runs out, whatever the pauses between bearerd's attempts are.
  { name: 'outage', auth: 'client_secret_basic', configure: byFile, life: 30, early: '75%' },
];
for (const sidecar of sidecars) Object.assign(sidecar, { client: `app:${sidecar.name}`, sent: 0, wrong: [] });

// What the provider and the API report, as it happens.
const atProvider = [];
const atApi = [];
const arrivals = ({ name }) => atApi.filter(({ url }) => url.startsWith(`/${name}/`));
const tokensUsed = (sidecar) => new Set(arrivals(sidecar).map(({ jti }) => jti)).size;
const requestsFor = (sidecar) => atProvider.filter(({ client }) => client === sidecar.client);

/** `api.test` resolves nowhere: only `connect_to` gets there, with TLS and Host for the name. */
function byFile({ name, auth, client, early, listen, admin }, { issuer, apiPort, caFile }) {
  const config = file(`${name}.yaml`, `
listen: ["127.0.0.1:${listen}"]
admin: 127.0.0.1:${admin}
tokens:
  reports:
    issuer: ${issuer}
    auth: ${auth}
    client_id: "${client}"
    client_secret: {file: ${secretFile}}
    resource: [${RESOURCE}]
    tls: {ca_file: ${caFile}}
    refresh: {early: ${early ?? '25%'}}
routes:
  - upstream: https://api.test:${apiPort}
    connect_to: 127.0.0.1:${apiPort}
    token: reports
    tls: {ca_file: ${caFile}}
`);
  return { host: `api.test:${apiPort}`, token: 'reports', args: ['--config', config, '--log-level', 'trace'], env: {} };
}

function byEnvironment({ auth, client, listen, admin }, { issuer, apiPort, caFile }) {
  return {
    host: `localhost:${apiPort}`,
    token: 'default',
    args: [],
    env: {
      BEARERD_UPSTREAM: `https://localhost:${apiPort}`,
      BEARERD_TOKEN_URL: `${issuer}/token`,
      BEARERD_CLIENT_ID: client,
      BEARERD_CLIENT_SECRET_FILE: secretFile,
      BEARERD_RESOURCE: RESOURCE,
      BEARERD_AUTH: auth,
      BEARERD_CA_FILE: caFile,
      BEARERD_LISTEN: `127.0.0.1:${listen}`,
      BEARERD_ADMIN: `127.0.0.1:${admin}`,
      BEARERD_LOG_LEVEL: 'trace',
    },
  };
}

/** Starts them all at once, and waits until each says that it is ready. */
async function start(group, place) {
  const ports = await freePorts(2 * group.length);
  await Promise.all(group.map(async (sidecar) => {
    [sidecar.listen, sidecar.admin] = ports.splice(0, 2);
    const { args, env, ...rest } = sidecar.configure(sidecar, place);
    Object.assign(sidecar, rest, { process: bearerd(BINARY, ['run', ...args], env) });
    let ended = false;
    sidecar.process.ended.then(() => { ended = true; });
    await eventually(`${sidecar.name} is ready`, 20, async () => {
      if (ended) throw new Error(`${sidecar.name} ended before it was ready (${await sidecar.process.ended})`);
      return (await curl('-f', `http://127.0.0.1:${sidecar.admin}/readyz`)).code === 0;
    });
  }));
}

// What an app may do, well-meaning or not, about the credential; and bodies, whose digests the API sends back.
const FORGED = ['-H', 'Authorization: Bearer forged'];
const MANNERS = [
  [],
  FORGED,
  ['-H', 'Authorization: Basic Zm9yZ2Vk', ...FORGED, '--proxy-user', 'app:forged'],
  ['-H', 'Connection: authorization', ...FORGED],
  ['--data-binary', `@${uploadFile}`],
  ['-H', 'Transfer-Encoding: chunked', '--data-binary', `@${uploadFile}`],
];
const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const UPLOAD_DIGEST = sha256(UPLOAD);
const EMPTY_DIGEST = sha256('');

/** Plays the app, one curl after the other: in all manners and both request forms, and on until `enough()`. */
async function traffic(sidecar, seconds, enough) {
  const deadline = Date.now() + seconds * 1000;
  for (let turn = 0; Date.now() < deadline && (turn < 2 * MANNERS.length || !enough()); turn += 1) {
    const manner = MANNERS[Math.floor(turn / 2) % MANNERS.length];
    const posts = manner.includes('--data-binary');
    const us = `http://127.0.0.1:${sidecar.listen}`;
    const form = turn % 2 === 0 ? { at: us, args: [] } : { at: `http://${sidecar.host}`, args: ['-x', us] };
    // Three transfers on one connection; the path holds what a careless proxy would decode.
    const path = `/${sidecar.name}/a%2Fb%20c?turn=${turn}&x=%C3%BC+&n=`;
    const args = [...form.args, ...manner, '-w', '\n%{http_code}\n', `${form.at}${path}[1-3]`];
    const { code, stdout, stderr } = await curl(...args);
    sidecar.sent += 3;

    const expected = [1, 2, 3].map((n) => JSON.stringify({
      method: posts ? 'POST' : 'GET',
      url: `${path}${n}`,
      host: sidecar.host,
      sha256: posts ? UPLOAD_DIGEST : EMPTY_DIGEST,
    }));
    if (stdout !== expected.map((echo) => `${echo}\n200\n`).join('')) {
      sidecar.wrong.push(`curl ${args.join(' ')}: exit code ${code} ${stderr}${stdout}`);
    }
    await sleep(50);
  }
}

const sum = (metrics, name) => metrics.split('\n').filter((line) => line.startsWith(`${name}{`))
  .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);

/** What the admin listener says; kept, since no secret may turn up there either. */
async function ask(sidecar, path) {
  const { stdout } = await curl(`http://127.0.0.1:${sidecar.admin}${path}`);
  sidecar.told = `${sidecar.told ?? ''}${stdout}`;
  return stdout;
}

async function tokenState(sidecar) {
  const { tokens } = JSON.parse(await ask(sidecar, '/status'));
  return tokens.find(({ name }) => name === sidecar.token)?.state;
}

/** Holds the admin listener to the contract, ends the sidecar, and judges all that it did. */
async function judge(sidecar, { renewals, seconds }) {
  const { name } = sidecar;
  const arrived = arrivals(sidecar);
  const asked = requestsFor(sidecar);
  const issued = new Set(asked.map(({ jti }) => jti));
  const foreign = arrived.filter(({ client, jti }) => client !== sidecar.client || !issued.has(jti));
  const renewed = tokensUsed(sidecar) - 1;
  const most = Math.ceil(seconds / (sidecar.life / 2)) + 2;
  const none = (what, bad) => {
    check(`${name}: ${what}`, bad.length === 0, `not so ${bad.length} times, first ${JSON.stringify(bad[0])}`);
  };

  none(`each of ${sidecar.sent} requests was answered by the API, with 200`, sidecar.wrong);
  check(`${name}: each reached the API once`, arrived.length === sidecar.sent, `${arrived.length} of ${sidecar.sent}`);
  none('each had exactly one Authorization, a valid token', arrived.filter(({ verdict }) => verdict !== 'valid'));
  none('each token was issued to this client', foreign);
  none('no credential of the app got through', arrived.filter(({ fromApp }) => fromApp.length > 0));
  check(`${name}: ${renewed} renewals`, renewed >= renewals, `fewer than ${renewals}`);
  none(`every token request was granted, by ${sidecar.auth}`,
    asked.filter(({ outcome, method }) => outcome !== 'granted' || method !== sidecar.auth));
  check(`${name}: ${asked.length} token requests in ${Math.round(seconds)} s`, asked.length <= most, `over ${most}`);

  const metrics = await ask(sidecar, '/metrics');
  const counted = sum(metrics, 'bearerd_requests_total');
  check(`${name}: /metrics counts the requests`, counted === sidecar.sent, `${counted}, not ${sidecar.sent}`);
  const expiry = sum(metrics, 'bearerd_token_expiry_timestamp_seconds');
  const left = expiry - Date.now() / 1000;
  // A second more than the life, for a number rounded up.
  check(`${name}: /metrics tells when the token expires`, left > 0 && left <= sidecar.life + 1, `in ${left} s`);
  const state = await tokenState(sidecar);
  check(`${name}: /status says fresh`, state === 'fresh', state);
  await ask(sidecar, '/');

  sidecar.process.kill('SIGTERM');
  const how = await Promise.race([sidecar.process.ended, sleep(10_000, 'still running')]);
  check(`${name}: SIGTERM ends it with 0`, how === 0, how);

  const said = `${sidecar.process.output()}${sidecar.told}`.toLowerCase();
  const signatures = asked.flatMap(({ token }) => (token ? [token.split('.').at(-1)] : []));
  const secrets = [...secretForms(sidecar.client), ...signatures];
  const leaked = secrets.filter((secret) => said.includes(secret.toLowerCase()));
  check(`${name}: it logs at trace`, sidecar.process.output() !== '', 'nothing on stdout or stderr');
  none('nothing that it said holds the secret or a token', leaked);
}

/** The client secret as it might be written anywhere: bare, and as each kind of form and Basic would send it. */
function secretForms(client) {
  const form = (text) => new URLSearchParams({ '': text }).toString().slice(1);
  const encodings = [(text) => text, encodeURIComponent, form];
  return [
    // Without its quotation mark, which every kind of log escapes in its own way.
    ...encodings.map((encode) => encode(SECRET.split('"')[0])),
    ...encodings.map((encode) => Buffer.from(`${encode(client)}:${encode(SECRET)}`).toString('base64')),
  ];
}

async function story() {
  const [caFile, apiTls, providerTls] = await certificates('DNS:api.test,DNS:localhost', 'IP:127.0.0.1');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwks = { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'one', alg: 'RS256', use: 'sig' }] };
  const clients = sidecars.map(({ client: id, auth, life }) => ({ id, auth, life }));
  const providerConfig = { port: 0, ...providerTls, jwks, resource: RESOURCE, secret: SECRET, clients };

  const provider = await serve('provider.mjs', providerConfig, atProvider);
  providerConfig.port = provider.port;
  const issuer = `https://127.0.0.1:${provider.port}`;
  const apiConfig = { ...apiTls, issuer, resource: RESOURCE };
  const api = await serve('api.mjs', apiConfig, atApi, { NODE_EXTRA_CA_CERTS: caFile });
  const place = { issuer, apiPort: api.port, caFile };

  // Renewal in full traffic, four sidecars at once.
  const outage = sidecars.at(-1);
  const steady = sidecars.slice(0, -1);
  let began = Date.now();
  await start(steady, place);
  await Promise.all(steady.map((sidecar) => traffic(sidecar, 40, () => tokensUsed(sidecar) > 3)));
  let seconds = (Date.now() - began) / 1000;
  for (const sidecar of steady) await judge(sidecar, { renewals: 3, seconds });

  // The provider goes away before the renewal is due, at 7.5 s, and comes back after it, while the app goes on.
  began = Date.now();
  await start([outage], place);
  const app = traffic(outage, 25, () => tokensUsed(outage) > 1);
  await sleep(5_000);
  await provider.stop();
  await sleep(4_500);
  const state = await tokenState(outage);
  const asked = sum(await ask(outage, '/metrics'), 'bearerd_token_requests_total');
  const tried = asked - requestsFor(outage).length;
  check('outage: /status says stale while renewal fails', state === 'stale', state);
  check(`outage: ${tried} renewals tried without the provider`, tried > 0 && tried < 10, 'not between 1 and 9');
  await serve('provider.mjs', providerConfig, atProvider);
  await app;
  seconds = (Date.now() - began) / 1000;
  await judge(outage, { renewals: 1, seconds });
}

if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}
try {
  await story();
} catch (error) {
  check('the story came to its end', false, error.stack);
}
if (failed > 0) {
  const answers = new Set(atProvider.map(({ client, outcome }) => `${client} ${outcome}`));
  console.log(`--- what the provider answered:\n${[...answers].join('\n')}`);
  for (const { name, process: run } of sidecars.filter((sidecar) => sidecar.process)) {
    console.log(`--- the last words of ${name}:\n${run.output().split('\n').slice(-15).join('\n')}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
