// bearerd against Keycloak, the way a vendor runs it for its customers: the realm below the old `/auth` prefix, HTTP
// Basic, access tokens that are older than the standard for them, and 401 `unauthorized_client` where others say
// `invalid_client`. The full cycle: issue, renewal, a secret that is regenerated, the standby, and back. Beside it a client
// that has no secret: a Kubernetes service account's token is its credential, as in k8s/examples/federated-keycloak.
//
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { certificates, check, curl, eventually, file, freePorts, replace, serve, tell } from '../oidc-provider/rig.mjs';
import {
  arrivals, atApi, judge, lastWords, secretForms, sidecar, start, status, tokensUsed, traffic,
} from '../oidc-provider/sidecar.mjs';
import { cluster } from './cluster.mjs';
import * as keycloak from './keycloak.mjs';

const IDS = ['reports', 'reports-2'];
const [FIRST, STANDBY] = ['first', 'standby'].map((word) => `${word}+a/s%s:w=r d&~"x`);
const FEDERATED = 'orders';
const LIFE = 6;
// The longest that Keycloak takes, and what the component asks the kubelet for.
const ASSERTION_LIFE = 3_600;
const PATIENCE = 20;

async function story(home) {
  const [caFile, apiTls, serverTls] = await certificates('DNS:api.test', 'IP:127.0.0.1');
  const [port, unusedPort] = await freePorts(2);
  const clients = { [IDS[0]]: FIRST, [IDS[1]]: STANDBY };
  const kubernetes = await cluster();
  const server = await keycloak.start(home, {
    port,
    unusedPort,
    caFile,
    life: LIFE,
    clients,
    cluster: kubernetes.issuer,
    federated: { [FEDERATED]: 'system:serviceaccount:shop:orders' },
    ...serverTls,
  });
  const { issuer } = server;
  const tokenUrl = `${issuer}/protocol/openid-connect/token`;

  // That it is the server which this rig is about.
  const { stdout: refused } = await curl('--cacert', caFile, '-u', `${IDS[0]}:wrong`,
    '-d', 'grant_type=client_credentials', '-w', '\n%{http_code}', tokenUrl);
  const known = /"unauthorized_client".*\n401$/.test(refused);
  check('Keycloak refuses a wrong secret with 401 unauthorized_client', known, refused);

  const jwks = `${issuer}/protocol/openid-connect/certs`;
  const apiConfig = { ...apiTls, issuer, jwks, audience: 'account', typ: 'JWT', client: 'client_id' };
  const api = await serve('api.mjs', apiConfig, atApi, { NODE_EXTRA_CA_CERTS: caFile });
  const paths = [FIRST, STANDBY].map((secret, i) => file(`secret-${i}`, secret));
  const secrets = [FIRST, STANDBY].flatMap((secret) => IDS.flatMap((id) => secretForms(id, secret)));
  const shared = { life: LIFE, auth: 'client_secret_basic' };
  // By discovery, with a standby; and by the token URL, as it is told to customers.
  const app = sidecar('discovered', {
    ...shared,
    clients: IDS,
    secrets,
    token: {
      issuer,
      auth: 'client_secret_basic',
      credentials: IDS.map((id, i) => ({ client_id: id, client_secret: { file: paths[i] } })),
    },
  });
  const plain = sidecar('token-url', {
    ...shared,
    clients: [IDS[1]],
    secrets,
    token: { token_url: tokenUrl, auth: 'client_secret_basic', client_id: IDS[1], client_secret: { file: paths[1] } },
  });
  const account = { namespace: 'shop', serviceAccount: 'orders', audience: issuer, life: ASSERTION_LIFE };
  const tokenFile = file('service-account-token', kubernetes.token(account));
  const federated = sidecar('federated', {
    ...shared,
    auth: 'client_assertion',
    clients: [FEDERATED],
    token: { provider: 'keycloak', issuer, client_id: FEDERATED, auth: 'client_assertion', assertion: { file: tokenFile } },
  });

  /** Waits until the app's last request was made with a new token of that client, and says what /status says. */
  async function inUse(what, id, index, since) {
    await eventually(`${what} in use`, PATIENCE, () => arrivals(app).at(-1)?.client === id && tokensUsed(app) > since);
    const { credential } = await status(app);
    const right = credential?.client_id === id && credential.index === index;
    check(`${what} in use, and /status says so`, right, JSON.stringify(credential));
  }

  const began = Date.now();
  await start([app, plain, federated], { apiPort: api.port, caFile });
  let told = false;
  const requests = [app, plain, federated].map((each) => traffic(each, 6 * PATIENCE, () => told, 100));
  try {
    await inUse('the current secret, renewed twice,', IDS[0], 0, 2);
    // As the kubelet does it; the old one would be good for longer.
    replace(tokenFile, kubernetes.token(account));
    const anew = await server.regenerate(IDS[0]);
    app.secrets.push(...secretForms(IDS[0], anew));
    await inUse('the standby', IDS[1], 1, tokensUsed(app));
    const line = app.process.output().split('\n').find((line) => line.includes('rejected') && line.includes(IDS[0]));
    check(`the log says that ${IDS[0]} was rejected`, line !== undefined, 'no such line');
    replace(paths[0], `${anew}\n`);
    await inUse('the new secret', IDS[0], 0, tokensUsed(app));
  } finally {
    told = true;
    await Promise.all(requests);
  }
  const seconds = (Date.now() - began) / 1000;
  await judge(app, { renewals: 4, seconds, refusals: 2 });
  await judge(plain, { renewals: 3, seconds });
  await judge(federated, { renewals: 3, seconds });
  // What is for another audience, or of another account, is nobody's credential.
  for (const wrong of [{ audience: 'https://elsewhere.example' }, { serviceAccount: 'default' }]) {
    const { stdout: answer } = await curl('--cacert', caFile, '-w', '\n%{http_code}', tokenUrl, '-d', new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: FEDERATED,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: kubernetes.token({ ...account, ...wrong }),
    }).toString());
    check(`Keycloak refuses a token with ${JSON.stringify(wrong)}`, /\n40[01]$/.test(answer), answer);
  }
  kubernetes.stop();
}

let home;
try {
  home = await keycloak.unpacked();
} catch (error) {
  console.log(`skipped: Keycloak cannot be had (${error.message})`);
  process.exit(0);
}
await tell(() => story(home), lastWords);
