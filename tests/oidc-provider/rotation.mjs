// What changes under traffic: secrets, keys and certificates, at the provider and in the files, in the order in which
// people do it. Not one request of the app may notice; the provider has to see the new credential in use, and who
// looks at bearerd has to be told which one was rejected.
import { X509Certificate, generateKeyPairSync } from 'node:crypto';
import { certificate, check, eventually, file, folder, replace } from './rig.mjs';
import { arrivals, judge, keyForms, requestsFor, secretForms, sidecar, start, status, traffic } from './sidecar.mjs';

// A renewal is due within a token's life; the rest is for slow machines.
const PATIENCE = 20;

const lastGranted = (of) => requestsFor(of).filter(({ outcome }) => outcome === 'granted').at(-1) ?? {};

/** Waits until the provider has granted a token to a request like that, and the app has used the token. */
async function inUse(of, what, like) {
  await eventually(`${of.name}: ${what} in use`, PATIENCE, () => {
    const granted = lastGranted(of);
    return like(granted) && arrivals(of).some(({ jti }) => jti === granted.jti);
  });
  check(`${of.name}: ${what} in use`, true);
}

async function credentialInUse(of, client, index) {
  const { credential } = await status(of);
  const right = credential?.client_id === client && credential.index === index;
  check(`${of.name}: /status names ${client} (${index}) as the credential in use`, right, JSON.stringify(credential));
}

function logNames(of, rejected, now) {
  const lines = of.process.output().split('\n');
  const line = lines.find((line) => line.includes('rejected') && line.includes(rejected) && line.includes(now));
  check(`${of.name}: the log says that ${rejected} was rejected and ${now} is used`, line !== undefined, 'it does not');
}

/** The sidecar that a story is about, with `change` for what is done to it while the traffic goes on. */
function made(name, { registrations, secrets, token, ...rest }, { provider, resource, life }) {
  const clients = [...new Set(registrations.map(({ client_id: id }) => id))];
  for (const registration of registrations) provider.send({ client: { life, ...registration } });
  return sidecar(name, {
    clients,
    life,
    auth: token.auth,
    secrets,
    token: { resource: [resource], ...token },
    ...rest,
  });
}

/**
 * Two sets of credentials, whose identifiers differ as some providers issue them. The first is withdrawn, in one of
 * two ways; then it is issued anew, and put into its file.
 */
function twoSecrets(name, auth, withdraw, world) {
  const { provider, place: { issuer }, life } = world;
  const ids = [`${name}:1`, `${name}:2`];
  const secret = (word) => `${word}+a/s%s:w=r d&~${'x'.repeat(16)}`;
  const [first, standby, anew] = ['first', 'standby', 'anew'].map(secret);
  const registration = (id, value) => ({ client_id: id, client_secret: value, token_endpoint_auth_method: auth });
  const paths = [first, standby].map((value, i) => file(`${name}.${i}`, value));
  return made(name, {
    registrations: [registration(ids[0], first), registration(ids[1], standby)],
    secrets: [first, standby, anew].flatMap((value) => ids.flatMap((id) => secretForms(id, value))),
    token: {
      issuer,
      auth,
      credentials: ids.map((id, i) => ({ client_id: id, client_secret: { file: paths[i] } })),
    },
    refusals: 2,
    async change(of) {
      await inUse(of, 'the current secret', ({ client }) => client === ids[0]);
      await credentialInUse(of, ids[0], 0);
      provider.send(withdraw(registration(ids[0], 'another'.repeat(8)), life));
      await inUse(of, 'the standby', ({ client }) => client === ids[1]);
      await credentialInUse(of, ids[1], 1);
      logNames(of, ids[0], ids[1]);
      provider.send({ client: { life, ...registration(ids[0], anew) } });
      replace(paths[0], `${anew}\n`);
      await inUse(of, 'the new secret', ({ client }) => client === ids[0]);
      await credentialInUse(of, ids[0], 0);
    },
  }, world);
}

/**
 * The wrong order, with nothing standing by: the provider takes another secret, bearerd is refused, and only then the
 * file changes. Renewal is due early enough for that to be mended in the life of the token in hand.
 */
function lateFile(world) {
  const { provider, place: { issuer } } = world;
  const name = 'late-file';
  const id = `app:${name}`;
  const [old, young] = ['old', 'young'].map((word) => `${word}+a/s%s:w=r d&~`);
  const path = file(`${name}.secret`, old);
  const registration = (value) => ({
    client_id: id,
    client_secret: value,
    token_endpoint_auth_method: 'client_secret_basic',
    life: 30,
  });
  return made(name, {
    registrations: [registration(old)],
    life: 30,
    secrets: [old, young].flatMap((value) => secretForms(id, value)),
    token: {
      issuer,
      auth: 'client_secret_basic',
      client_id: id,
      client_secret: { file: path },
      refresh: { early: '90%' },
    },
    refusals: 8,
    async change(of) {
      await inUse(of, 'the old secret', () => true);
      provider.send({ client: registration(young) });
      await eventually(`${name}: refused`, PATIENCE, () => requestsFor(of).at(-1)?.outcome !== 'granted');
      const { state, last_error: error } = await status(of);
      const told = state === 'stale' && error?.what.includes('401');
      check(`${name}: /status says stale, and why`, told, `${state}, ${error?.what}`);
      const last = lastGranted(of).jti;
      replace(path, young);
      await inUse(of, 'the secret that came late', ({ jti }) => jti !== last);
    },
  }, world);
}

const jwkOf = (pair, kid) => ({ ...pair.publicKey.export({ format: 'jwk' }), kid, use: 'sig' });
const pemOf = (pair) => pair.privateKey.export({ type: 'pkcs8', format: 'pem' });
const keyClient = (id, ...keys) => ({ client_id: id, token_endpoint_auth_method: 'private_key_jwt', jwks: { keys } });

/** The provider learns the new key, then the file changes, then the provider forgets the old one. */
function keyReplaced(world) {
  const { provider, place: { issuer }, life } = world;
  const name = 'key-replaced';
  const id = `app:${name}`;
  const [old, young] = [1, 2].map(() => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
  const path = file(`${name}.key`, pemOf(old));
  return made(name, {
    registrations: [keyClient(id, jwkOf(old, 'old'))],
    secrets: [...keyForms(pemOf(old)), ...keyForms(pemOf(young))],
    token: { issuer, auth: 'private_key_jwt', client_id: id, private_key: { file: path } },
    async change(of) {
      await inUse(of, 'the old key', () => true);
      provider.send({ client: { life, ...keyClient(id, jwkOf(old, 'old'), jwkOf(young, 'young')) } });
      replace(path, pemOf(young));
      let last = lastGranted(of).jti;
      await inUse(of, 'a token after the key changed', ({ jti }) => jti !== last);
      // Which of the two signed cannot be told from a request without `kid`, so now there is only one.
      provider.send({ client: { life, ...keyClient(id, jwkOf(young, 'young')) } });
      last = lastGranted(of).jti;
      await inUse(of, 'the new key, the only one left,', ({ jti }) => jti !== last);
    },
  }, world);
}

/** Two keys of one client, the second of another kind; the provider forgets the first. */
function keyStandby(world) {
  const { provider, place: { issuer }, life } = world;
  const name = 'key-standby';
  const id = `app:${name}`;
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const [current, standby] = [jwkOf(ec, 'ec-1'), jwkOf(rsa, 'rsa-2')];
  const keyOf = (pair, kid) => ({
    client_id: id,
    private_key: { file: file(`${name}.${kid}`, pemOf(pair)) },
    key_id: kid,
  });
  return made(name, {
    registrations: [keyClient(id, current, standby)],
    secrets: [...keyForms(pemOf(ec)), ...keyForms(pemOf(rsa))],
    token: { issuer, auth: 'private_key_jwt', credentials: [keyOf(ec, 'ec-1'), keyOf(rsa, 'rsa-2')] },
    refusals: 2,
    async change(of) {
      await inUse(of, 'the ES256 key', ({ alg, kid }) => alg === 'ES256' && kid === 'ec-1');
      provider.send({ client: { life, ...keyClient(id, standby) } });
      await inUse(of, 'the RSA key that stood by', ({ alg, kid }) => alg === 'RS256' && kid === 'rsa-2');
      await credentialInUse(of, id, 1);
      logNames(of, id, id);
    },
  }, world);
}

const certificateClient = (id, san) => ({
  client_id: id,
  token_endpoint_auth_method: 'tls_client_auth',
  tls_client_auth_san_dns: san,
});
const fingerprint = ({ cert }) => new X509Certificate(cert).fingerprint256;

/** The files of a certificate and its key change, one after the other; then the old certificate is withdrawn. */
async function certificateReplaced(world) {
  const { provider, place: { issuer } } = world;
  const name = 'certificate-replaced';
  const id = `app:${name}`;
  const [old, young] = [await certificate(name, `DNS:${name}.test`, 'clientAuth'),
    await certificate(`${name}-2`, `DNS:${name}.test`, 'clientAuth')];
  const [cert, key] = [`${folder}/${name}.pem`, `${folder}/${name}.key`];
  return made(name, {
    registrations: [certificateClient(id, `${name}.test`)],
    secrets: [...keyForms(old.key), ...keyForms(young.key)],
    token: { issuer, auth: 'tls_client_auth', client_id: id, cert_file: cert, key_file: key },
    async change(of) {
      await inUse(of, 'the old certificate', ({ certificate }) => certificate === fingerprint(old));
      replace(cert, young.cert);
      // A renewal falls into the moment when the one file is new and the other one is not.
      const last = lastGranted(of).jti;
      await inUse(of, 'the old certificate, while its files do not fit together,',
        ({ certificate, jti }) => certificate === fingerprint(old) && jti !== last);
      replace(key, young.key);
      await inUse(of, 'the new certificate', ({ certificate }) => certificate === fingerprint(young));
      provider.send({ revoke: fingerprint(old) });
      const before = lastGranted(of).jti;
      await inUse(of, 'the new certificate, with the old one withdrawn', ({ jti }) => jti !== before);
    },
  }, world);
}

/** Two certificates, the first of which is withdrawn. */
async function certificateStandby(world) {
  const { provider, place: { issuer } } = world;
  const name = 'certificate-standby';
  const ids = [1, 2].map((i) => `${name}:${i}`);
  const [first, second] = [await certificate(`${name}-1`, `DNS:1.${name}.test`, 'clientAuth'),
    await certificate(`${name}-2`, `DNS:2.${name}.test`, 'clientAuth')];
  return made(name, {
    registrations: ids.map((id, i) => certificateClient(id, `${i + 1}.${name}.test`)),
    secrets: [...keyForms(first.key), ...keyForms(second.key)],
    token: {
      issuer,
      auth: 'tls_client_auth',
      credentials: ids.map((id, i) => ({
        client_id: id,
        cert_file: `${folder}/${name}-${i + 1}.pem`,
        key_file: `${folder}/${name}-${i + 1}.key`,
      })),
    },
    refusals: 2,
    async change(of) {
      await inUse(of, 'the first certificate', ({ certificate }) => certificate === fingerprint(first));
      provider.send({ revoke: fingerprint(first) });
      await inUse(of, 'the certificate that stood by', ({ certificate }) => certificate === fingerprint(second));
      await credentialInUse(of, ids[1], 1);
      logNames(of, ids[0], ids[1]);
    },
  }, world);
}

/** All of them at once, each with traffic of its own until its story is told. */
export async function rotations(world) {
  const group = [
    twoSecrets('basic-withdrawn', 'client_secret_basic', ({ client_id: id }) => ({ forget: id }), world),
    twoSecrets('post-changed', 'client_secret_post', (other, life) => ({ client: { life, ...other } }), world),
    twoSecrets('jwt-changed', 'client_secret_jwt', (other, life) => ({ client: { life, ...other } }), world),
    lateFile(world),
    keyReplaced(world),
    keyStandby(world),
    await certificateReplaced(world),
    await certificateStandby(world),
  ];
  const began = Date.now();
  await start(group, world.place);
  await Promise.all(group.map(async (each) => {
    let told = false;
    const change = each.change(each)
      .catch((error) => check(`${each.name}: its story came to its end`, false, error.message))
      .finally(() => { told = true; });
    await Promise.all([change, traffic(each, 4 * PATIENCE, () => told, 150)]);
  }));
  const seconds = (Date.now() - began) / 1000;
  for (const each of group) await judge(each, { renewals: 1, seconds, refusals: each.refusals ?? 0 });
}
