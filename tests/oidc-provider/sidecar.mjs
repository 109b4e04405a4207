// One sidecar under test, from its configuration to its last word: started, given traffic by real curl processes,
// asked on its admin listener, and judged by what the API (and the provider, where it is ours to observe) saw.
// All rigs judge with this, so that a promise of bearerd is worded once.
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bearerd, check, curl, eventually, failures, file, freePorts } from './rig.mjs';

const BINARY = process.env.BEARERD ?? fileURLToPath(new URL('../../target/debug/bearerd', import.meta.url));
if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}

// What the provider and the API report, as it happens. A provider that does not report leaves the first one empty.
export const atProvider = [];
export const atApi = [];

const sidecars = [];

/**
 * What `name` is: `clients` are the identifiers that it may be known by, `secrets` whatever must never be printed,
 * `life` what its tokens live for, in seconds. Its requests have a path of their own.
 */
export function sidecar(name, { clients, ...rest }) {
  const made = { name, clients, secrets: [], sent: 0, wrong: [], told: '', ...rest };
  sidecars.push(made);
  return made;
}

export const arrivals = ({ name }) => atApi.filter(({ url }) => url.startsWith(`/${name}/`));
export const tokensUsed = (of) => new Set(arrivals(of).map(({ jti }) => jti)).size;
export const requestsFor = ({ clients }) => atProvider.filter(({ client }) => clients.includes(client));

/**
 * The configuration by file: `token` is its entry below `tokens`. `api.test` resolves nowhere: only `connect_to` gets
 * there, with TLS and Host for the name.
 */
export function byFile({ name, token, listen, admin }, { apiPort, caFile }) {
  const config = file(`${name}.yaml`, `
listen: ["127.0.0.1:${listen}"]
admin: 127.0.0.1:${admin}
tokens:
  reports: ${JSON.stringify({ ...token, tls: { ca_file: caFile } })}
routes:
  - upstream: https://api.test:${apiPort}
    connect_to: 127.0.0.1:${apiPort}
    token: reports
    tls: {ca_file: ${caFile}}
`);
  const args = ['--config', config, '--log-level', 'trace'];
  return { host: `api.test:${apiPort}`, tokenName: 'reports', args, env: {} };
}

/** Starts them all at once, and waits until each says that it is ready. */
export async function start(group, place) {
  const ports = await freePorts(2 * group.length);
  await Promise.all(group.map(async (sidecar) => {
    [sidecar.listen, sidecar.admin] = ports.splice(0, 2);
    const { args, env, ...rest } = (sidecar.configure ?? byFile)(sidecar, place);
    Object.assign(sidecar, rest, { process: bearerd(BINARY, ['run', ...args], env) });
    let ended = false;
    sidecar.process.ended.then(() => { ended = true; });
    await eventually(`${sidecar.name} is ready`, 20, async () => {
      if (ended) {
        throw new Error(`${sidecar.name} ended (${await sidecar.process.ended}): ${sidecar.process.output()}`);
      }
      return (await curl('-f', `http://127.0.0.1:${sidecar.admin}/readyz`)).code === 0;
    });
  }));
}

const UPLOAD = randomBytes(300 * 1024);
const uploadFile = file('upload', UPLOAD);

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
export async function traffic(sidecar, seconds, enough, pause = 50) {
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
    await sleep(pause);
  }
}

export const sum = (metrics, name, label = '') => metrics.split('\n')
  .filter((line) => line.startsWith(`${name}{`) && line.includes(label))
  .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);

/** What the admin listener says; kept, since no secret may turn up there either. */
export async function ask(sidecar, path) {
  const { stdout } = await curl(`http://127.0.0.1:${sidecar.admin}${path}`);
  sidecar.told += stdout;
  return stdout;
}

/** The token's part of /status. */
export async function status(sidecar) {
  const { tokens } = JSON.parse(await ask(sidecar, '/status'));
  return tokens.find(({ name }) => name === sidecar.tokenName) ?? {};
}

/**
 * Holds the admin listener to the contract, ends the sidecar, and judges all that it did. `refusals` is how many token
 * requests the provider may have refused at most, and must have refused at least one of, where it is not nought.
 */
export async function judge(sidecar, { renewals, seconds, refusals = 0 }) {
  const { name } = sidecar;
  const arrived = arrivals(sidecar);
  const asked = requestsFor(sidecar);
  const issued = new Set(asked.map(({ jti }) => jti));
  const isOurs = ({ client, jti }) => sidecar.clients.includes(client) && (atProvider.length === 0 || issued.has(jti));
  const renewed = tokensUsed(sidecar) - 1;
  const most = Math.ceil(seconds / (sidecar.life / 2)) + 2 + refusals;
  const none = (what, bad) => {
    check(`${name}: ${what}`, bad.length === 0, `not so ${bad.length} times, first ${JSON.stringify(bad[0])}`);
  };

  none(`each of ${sidecar.sent} requests was answered by the API, with 200`, sidecar.wrong);
  check(`${name}: each reached the API once`, arrived.length === sidecar.sent, `${arrived.length} of ${sidecar.sent}`);
  none('each had exactly one Authorization, a valid token', arrived.filter(({ verdict }) => verdict !== 'valid'));
  none('each token was issued to this client', arrived.filter((request) => !isOurs(request)));
  none('no credential of the app got through', arrived.filter(({ fromApp }) => fromApp.length > 0));
  check(`${name}: ${renewed} renewals`, renewed >= renewals, `fewer than ${renewals}`);

  // An exchange is counted when it is over, which may be a moment after curl has its answer.
  let metrics = await ask(sidecar, '/metrics');
  for (let i = 0; i < 20 && sum(metrics, 'bearerd_requests_total') !== sidecar.sent; i += 1) {
    await sleep(100);
    metrics = await ask(sidecar, '/metrics');
  }
  const counted = sum(metrics, 'bearerd_requests_total');
  check(`${name}: /metrics counts the requests`, counted === sidecar.sent, `${counted}, not ${sidecar.sent}`);
  // Those that arrived, where somebody tells.
  const requests = atProvider.length > 0 ? asked.length : sum(metrics, 'bearerd_token_requests_total');
  const granted = sum(metrics, 'bearerd_token_requests_total', 'outcome="granted"');
  check(`${name}: ${requests} token requests in ${Math.round(seconds)} s`, requests <= most, `over ${most}`);
  if (atProvider.length > 0) {
    const expected = { method: sidecar.auth, ...sidecar.expected };
    none(`every token request was made by ${Object.values(expected).join(', ')}`,
      asked.filter((request) => Object.entries(expected).some(([key, value]) => request[key] !== value)));
    const refused = asked.filter(({ outcome }) => outcome !== 'granted');
    const right = refusals === 0 ? refused.length === 0 : refused.length > 0 && refused.length <= refusals;
    check(`${name}: ${refused.length} token requests were refused`, right, JSON.stringify(refused[0]));
  } else {
    const refused = requests - granted;
    const right = refusals === 0 ? refused === 0 : refused > 0 && refused <= refusals;
    const range = `not between ${Math.min(refusals, 1)} and ${refusals}`;
    check(`${name}: ${refused} token requests were refused`, right, range);
  }
  const expiry = sum(metrics, 'bearerd_token_expiry_timestamp_seconds');
  const left = expiry - Date.now() / 1000;
  // A second more than the life, for a number rounded up.
  check(`${name}: /metrics tells when the token expires`, left > 0 && left <= sidecar.life + 1, `in ${left} s`);
  const { state } = await status(sidecar);
  check(`${name}: /status says fresh`, state === 'fresh', state);
  await ask(sidecar, '/');

  sidecar.process.kill('SIGTERM');
  const how = await Promise.race([sidecar.process.ended, sleep(10_000, 'still running')]);
  check(`${name}: SIGTERM ends it with 0`, how === 0, how);

  const said = `${sidecar.process.output()}${sidecar.told}`.toLowerCase();
  const jwts = [...asked, ...arrived].flatMap(({ token, assertion }) => [token, assertion].filter(Boolean));
  const signatures = new Set(jwts.map((jwt) => jwt.split('.').at(-1)));
  const leaked = [...sidecar.secrets, ...signatures].filter((secret) => said.includes(secret.toLowerCase()));
  check(`${name}: it logs at trace`, sidecar.process.output() !== '', 'nothing on stdout or stderr');
  none('nothing that it said holds a secret, a key, an assertion or a token', leaked);
}

/** A client secret as it might be written anywhere: bare, and as each kind of form and Basic would send it. */
export function secretForms(client, secret) {
  const form = (text) => new URLSearchParams({ '': text }).toString().slice(1);
  const encodings = [(text) => text, encodeURIComponent, form];
  return [
    // Without what follows a quotation mark, which every kind of log escapes in its own way.
    ...encodings.map((encode) => encode(secret.split('"')[0])),
    ...encodings.map((encode) => Buffer.from(`${encode(client)}:${encode(secret)}`).toString('base64')),
  ];
}

/** The lines of a private key's PEM, and the numbers of a JWK that are nobody else's business. */
export function keyForms(text) {
  if (text.startsWith('{')) {
    const jwk = JSON.parse(text);
    return ['d', 'p', 'q', 'dp', 'dq', 'qi'].flatMap((part) => jwk[part] ?? []);
  }
  return text.split('\n').filter((line) => line.length > 16 && !line.startsWith('-----'));
}

/** What helps to see why something failed. */
export function lastWords() {
  const concerned = sidecars.filter(({ name, process: run }) => run && failures.some((what) => what.includes(name)));
  for (const of of concerned) {
    const answers = new Set(requestsFor(of).map(({ client, method, outcome }) => `${client} ${method} ${outcome}`));
    console.log(`--- what the provider answered to ${of.name}:\n${[...answers].join('\n')}`);
    const lines = of.process.output().split('\n').filter((line) => !line.includes('"event":"exchange"'));
    console.log(`--- the last words of ${of.name}:\n${lines.slice(-25).join('\n')}`);
  }
}
