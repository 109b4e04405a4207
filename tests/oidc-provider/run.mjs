// bearerd from outside: the built binary between real curl processes and an API that verifies every token, with a
// certified OpenID provider behind. What this adds to the tests in Rust is that nothing in it is ours but bearerd:
// TLS, OAuth, JWTs and HTTP clients are other people's, so a misreading of a standard cannot cancel itself out.
//
// Here is every client authentication in steady traffic, and an outage; rotation.mjs holds what changes under traffic.
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { certificate, certificates, check, file, folder, serve, tell } from './rig.mjs';
import { rotations } from './rotation.mjs';
import {
  ask, atApi, atProvider, byFile, judge, keyForms, lastWords, requestsFor, secretForms, sidecar, start, status, sum,
  tokensUsed, traffic,
} from './sidecar.mjs';

// Every character that the two encodings of credentials (form in Basic, form in the body) are known to disagree on.
const SECRET = 'p+a/s%s:w=r d&~"x';
// The same, as long as a key of HS256 has to be.
const LONG_SECRET = `p+a/s%s:w=r d&~-${'x'.repeat(16)}"`;
// Without the slash that URL libraries like to append.
const RESOURCE = 'https://api.test';
// Short enough for three renewals in a quarter of a minute.
const LIFE = 6;

const secretFile = file('secret', SECRET);

function byEnvironment({ auth, clients: [client], listen, admin }, { issuer, apiPort, caFile }) {
  return {
    host: `localhost:${apiPort}`,
    tokenName: 'default',
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

/** A sidecar that is a client of its own, `credential` and all else as its token is configured. */
function client(name, { auth, life = LIFE, secrets = [], registration, expected, configure, ...token }) {
  const id = `app:${name}`;
  return sidecar(name, {
    clients: [id],
    auth,
    life,
    expected,
    secrets: secrets.flatMap((secret) => secretForms(id, secret)),
    registration: { client_id: id, token_endpoint_auth_method: auth, life, ...registration },
    configure,
    token: { auth, client_id: id, resource: [RESOURCE], refresh: { early: '25%' }, ...token },
  });
}

const withSecret = (name, issuer, more) => client(name, {
  secrets: [SECRET],
  registration: { client_secret: SECRET },
  issuer,
  client_secret: { file: secretFile },
  ...more,
});

/** By secret in a header or the form, each configured by file (discovery, `connect_to`) and by environment. */
const bySecret = (issuer) => [
  withSecret('basic-file', issuer, { auth: 'client_secret_basic' }),
  withSecret('basic-env', issuer, { auth: 'client_secret_basic', configure: byEnvironment }),
  withSecret('post-file', issuer, { auth: 'client_secret_post' }),
  withSecret('post-env', issuer, { auth: 'client_secret_post', configure: byEnvironment }),
];

/** By assertion, in every way that says for whom it is, and by certificate, with and without the alias. */
async function byProof(issuer, mtls) {
  const tokenUrl = `${issuer}/token`;
  const pem = (pair) => pair.privateKey.export({ type: 'pkcs8', format: 'pem' });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = JSON.stringify(rsa.privateKey.export({ format: 'jwk' }));
  const keys = [
    { ...ec.publicKey.export({ format: 'jwk' }), kid: 'ec-1', use: 'sig' },
    { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'rsa-1', use: 'sig' },
  ];
  const byKey = (name, key, more) => Object.assign(client(name, {
    auth: 'private_key_jwt',
    registration: { jwks: { keys } },
    private_key: { file: file(`${name}.key`, key) },
    ...more,
  }), { secrets: keyForms(key) });
  const byCertificate = async (name, more) => {
    const { key } = await certificate(name, `DNS:${name}.test`, 'clientAuth');
    return Object.assign(client(name, {
      auth: 'tls_client_auth',
      registration: { tls_client_auth_san_dns: `${name}.test` },
      cert_file: `${folder}/${name}.pem`,
      key_file: `${folder}/${name}.key`,
      ...more,
    }), { secrets: keyForms(key) });
  };
  return [
    client('secret-jwt', {
      auth: 'client_secret_jwt',
      secrets: [LONG_SECRET],
      registration: { client_secret: LONG_SECRET, token_endpoint_auth_signing_alg: 'HS256' },
      expected: { alg: 'HS256', aud: issuer },
      issuer,
      client_secret: { file: file('long-secret', LONG_SECRET) },
    }),
    // For the issuer, which is what the standard has come to.
    byKey('key-es256', pem(ec), { issuer, key_id: 'ec-1', expected: { alg: 'ES256', kid: 'ec-1', aud: issuer } }),
    // For the token URL, as it is without discovery.
    byKey('key-ps256', jwk, {
      token_url: tokenUrl,
      key_id: 'rsa-1',
      assertion: { alg: 'PS256', typ: 'client-authentication+jwt' },
      expected: { alg: 'PS256', kid: 'rsa-1', typ: 'client-authentication+jwt', aud: tokenUrl },
    }),
    // Found by discovery, and yet for the token URL; the provider has to try its keys.
    byKey('key-rs256', pem(rsa), {
      issuer,
      assertion: { audience: tokenUrl },
      expected: { alg: 'RS256', kid: undefined, aud: tokenUrl },
    }),
    await byCertificate('mtls-alias', { issuer }),
    await byCertificate('mtls-url', { token_url: `https://127.0.0.1:${mtls}/token` }),
  ];
}

async function story() {
  const [caFile, apiTls, providerTls] = await certificates('DNS:api.test,DNS:localhost', 'IP:127.0.0.1');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwks = { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'one', alg: 'RS256', use: 'sig' }] };
  const providerConfig = { port: 0, mtlsPort: 0, ...providerTls, caFile, jwks, resource: RESOURCE, clients: [] };

  let provider = await serve('provider.mjs', providerConfig, atProvider);
  const { port, mtlsPort } = provider;
  Object.assign(providerConfig, { port, mtlsPort });
  const issuer = `https://127.0.0.1:${port}`;
  const apiConfig = {
    ...apiTls, issuer, jwks: `${issuer}/jwks`, audience: RESOURCE, typ: 'at+jwt', client: 'client_id',
  };
  const api = await serve('api.mjs', apiConfig, atApi, { NODE_EXTRA_CA_CERTS: caFile });
  const place = { issuer, apiPort: api.port, caFile };
  const register = (group) => group.forEach(({ registration }) => provider.send({ client: registration }));

  // Renewal in full traffic, several sidecars at once.
  for (const group of [bySecret(issuer), await byProof(issuer, mtlsPort)]) {
    register(group);
    const began = Date.now();
    await start(group, place);
    await Promise.all(group.map((each) => traffic(each, 40, () => tokensUsed(each) > 3, 12 * group.length)));
    const seconds = (Date.now() - began) / 1000;
    for (const each of group) await judge(each, { renewals: 3, seconds });
  }

  await rotations({ place, provider, resource: RESOURCE, life: LIFE });

  // The provider goes away before the renewal is due, at 7.5 s, and comes back after it, while the app goes on. Due
  // after a quarter of the life, that is: early enough that the provider can be away for seconds around it, and back
  // long before the token in hand runs out, whatever the pauses between bearerd's attempts are.
  const outage = withSecret('outage', issuer, { auth: 'client_secret_basic', life: 30, refresh: { early: '75%' } });
  register([outage]);
  const began = Date.now();
  await start([outage], place);
  const app = traffic(outage, 25, () => tokensUsed(outage) > 1);
  await sleep(5_000);
  await provider.stop();
  await sleep(4_500);
  const { state } = await status(outage);
  const asked = sum(await ask(outage, '/metrics'), 'bearerd_token_requests_total');
  const tried = asked - requestsFor(outage).length;
  check('outage: /status says stale while renewal fails', state === 'stale', state);
  check(`outage: ${tried} renewals tried without the provider`, tried > 0 && tried < 10, 'not between 1 and 9');
  provider = await serve('provider.mjs', { ...providerConfig, clients: [outage.registration] }, atProvider);
  await app;
  await judge(outage, { renewals: 1, seconds: (Date.now() - began) / 1000 });
}

await tell(story, lastWords);
