// Keycloak as its makers publish it on Maven Central: fetched by Maven, which verifies and keeps it, unpacked into the
// test's own folder and started in development mode on loopback, with a realm from a file and its paths below `/auth`.
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { curl, eventually, file, folder, track } from '../oidc-provider/rig.mjs';

const run = promisify(execFile);

// The newest that runs on Java 17.
const VERSION = '26.7.3';
const ADMIN = { username: 'admin', password: 'only-for-this-test' };

/** Fetches it (some 160 MB, once) and unpacks it. The error of one that cannot be had is the reason to skip the rig. */
export async function unpacked() {
  const repository = join(homedir(), '.m2/repository');
  const name = 'keycloak-quarkus-dist';
  const archive = join(repository, 'org/keycloak', name, VERSION, `${name}-${VERSION}.tar.gz`);
  const args = [
    '-B', '-q', '-Dstyle.color=never', `-Dmaven.repo.local=${repository}`,
    'dependency:get', '-Dtransitive=false', `-Dartifact=org.keycloak:${name}:${VERSION}:tar.gz`,
  ];
  // Without the network too, once it is there.
  await run('mvn', ['-o', ...args], { timeout: 60_000 }).catch(() => run('mvn', args, { timeout: 300_000 }))
    .catch((error) => { throw new Error(`Maven: ${error.stdout?.trim().split('\n')[0] || error.message}`); });
  await run('tar', ['xzf', archive, '-C', folder]);
  const home = join(folder, `keycloak-${VERSION}`);
  await run(join(home, 'bin/kc.sh'), ['--version']).catch((error) => {
    throw new Error(`kc.sh: ${(error.stderr || error.stdout).trim().split('\n')[0]}`);
  });
  return home;
}

/**
 * Starts it with the realm `acme`, whose `clients` are identifiers and secrets. `federated` are identifiers and the
 * subjects that the tokens of the issuer `cluster` have for them.
 */
export async function start(home, { port, unusedPort, cert, key, caFile, life, clients, cluster, federated }) {
  const base = `https://127.0.0.1:${port}/auth`;
  const client = (clientId, how) => ({
    clientId,
    protocol: 'openid-connect',
    publicClient: false,
    serviceAccountsEnabled: true,
    standardFlowEnabled: false,
    ...how,
  });
  const realm = {
    realm: 'acme',
    enabled: true,
    accessTokenLifespan: life,
    clients: [
      ...Object.entries(clients).map(([id, secret]) => client(id, { secret, clientAuthenticatorType: 'client-secret' })),
      ...Object.entries(federated).map(([id, subject]) => client(id, {
        clientAuthenticatorType: 'federated-jwt',
        attributes: { 'jwt.credential.issuer': 'cluster', 'jwt.credential.sub': subject },
      })),
    ],
    identityProviders: [{ alias: 'cluster', providerId: 'kubernetes', enabled: true, config: { issuer: cluster } }],
  };
  mkdirSync(join(home, 'data/import'), { recursive: true });
  writeFileSync(join(home, 'data/import/acme-realm.json'), JSON.stringify(realm));
  let said = '';
  const child = track(spawn(join(home, 'bin/kc.sh'), [
    'start-dev', '--import-realm', '--cache=local', '--http-relative-path=/auth', '--http-host=127.0.0.1',
    // Development mode insists on a plain one too.
    `--http-port=${unusedPort}`, `--https-port=${port}`,
    `--https-certificate-file=${file('keycloak.pem', cert)}`,
    `--https-certificate-key-file=${file('keycloak.key', key)}`,
  ], {
    // A group of its own, since the script has children that its end would not be the end of.
    detached: true,
    env: {
      ...process.env,
      KC_BOOTSTRAP_ADMIN_USERNAME: ADMIN.username,
      KC_BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
      JAVA_OPTS_KC_HEAP: '-Xms128m -Xmx512m',
      // What compiles slowly would compile for longer than this test runs.
      JAVA_OPTS_APPEND: '-XX:TieredStopAtLevel=1',
    },
  }), ({ pid }) => process.kill(-pid, 'SIGKILL'));
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  let ended = false;
  child.once('close', () => { ended = true; });

  const ask = async (...args) => (await curl('-f', '--cacert', caFile, ...args)).stdout;
  const issuer = `${base}/realms/acme`;
  await eventually('Keycloak serves its realm', 180, async () => {
    if (ended) throw new Error(`Keycloak ended: ${said}`);
    return (await ask(`${issuer}/.well-known/openid-configuration`)) !== '';
  });

  /** Asks the admin API; each time with a token of its own, since they live for a minute. */
  async function admin(method, path) {
    const form = new URLSearchParams({ client_id: 'admin-cli', grant_type: 'password', ...ADMIN }).toString();
    const granted = JSON.parse(await ask('-d', form, `${base}/realms/master/protocol/openid-connect/token`));
    const authorization = `Authorization: Bearer ${granted.access_token}`;
    return JSON.parse(await ask('-X', method, '-H', authorization, `${base}/admin/realms/acme${path}`));
  }
  return {
    issuer,
    output: () => said,
    /** Makes a new secret for a client, and returns it; the old one is no longer accepted from then on. */
    async regenerate(clientId) {
      const [{ id }] = await admin('GET', `/clients?clientId=${clientId}`);
      return (await admin('POST', `/clients/${id}/client-secret`)).value;
    },
  };
}
