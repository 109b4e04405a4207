// bearerd against glewlwyd, whose dialect is the opposite of the certified provider's next door: it reads Basic as it
// stands, without decoding, calls its tokens `bearer`, and refuses with 403 and an empty body. What a client makes up
// for one of the two fails with the other.
//
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { setTimeout as sleep } from 'node:timers/promises';
import { certificates, check, curl, eventually, file, freePorts, replace, serve, tell } from '../oidc-provider/rig.mjs';
import {
  arrivals, atApi, judge, lastWords, secretForms, sidecar, start, status, tokensUsed, traffic,
} from '../oidc-provider/sidecar.mjs';
import * as glewlwyd from './glewlwyd.mjs';

// No colon in an identifier: where nothing is encoded it would end there.
const IDS = ['app-1', 'app-2'];
const [FIRST, STANDBY, ANEW] = ['first', 'standby', 'anew'].map((word) => `${word}+a/s%s:w=r d&~"x`);
const LIFE = 6;
const PATIENCE = 20;

async function story(program) {
  const [caFile, apiTls, serverTls] = await certificates('DNS:api.test', 'IP:127.0.0.1');
  const [port] = await freePorts(1);
  const server = await glewlwyd.start(program, { port, caFile, life: LIFE, ...serverTls });
  await server.add(IDS[0], FIRST);
  await server.add(IDS[1], STANDBY);
  const { issuer } = server;

  // That it is the server which this rig is about.
  const asked = (basic) => curl('--cacert', caFile, '-u', basic, '-d', 'grant_type=client_credentials&scope=reports',
    '-w', '\n%{http_code}', `${issuer}/token`);
  const { stdout: raw } = await asked(`${IDS[0]}:${FIRST}`);
  check('glewlwyd takes raw Basic, and says `bearer`', /"bearer".*\n200$/.test(raw), 'it does not');
  const { stdout: encoded } = await asked(`${IDS[0]}:${encodeURIComponent(FIRST)}`);
  check('glewlwyd refuses encoded Basic with 403 and nothing else', encoded === '\n403', encoded);

  const tokens = { issuer, jwks: `${issuer}/jwks`, audience: 'reports', typ: 'at+jwt', client: 'client_id' };
  const apiConfig = { ...apiTls, ...tokens };
  const api = await serve('api.mjs', apiConfig, atApi, { NODE_EXTRA_CA_CERTS: caFile });
  const paths = [FIRST, STANDBY].map((secret, i) => file(`secret-${i}`, secret));
  const app = sidecar('glewlwyd', {
    clients: IDS,
    life: LIFE,
    auth: 'client_secret_basic',
    secrets: [FIRST, STANDBY, ANEW].flatMap((secret) => IDS.flatMap((id) => secretForms(id, secret))),
    token: {
      issuer,
      auth: 'client_secret_basic',
      basic_encoding: 'raw',
      scope: 'reports',
      credentials: IDS.map((id, i) => ({ client_id: id, client_secret: { file: paths[i] } })),
    },
  });

  /** Waits until the app's last request was made with a token of that client, and says what /status says. */
  async function inUse(what, id, index, since) {
    await eventually(`${what} in use`, PATIENCE, () => {
      const last = arrivals(app).at(-1);
      return last?.client === id && tokensUsed(app) > since;
    });
    const { credential } = await status(app);
    const right = credential?.client_id === id && credential.index === index;
    check(`${what} in use, and /status says so`, right, JSON.stringify(credential));
  }

  const began = Date.now();
  await start([app], { apiPort: api.port, caFile });
  let told = false;
  const requests = traffic(app, 6 * PATIENCE, () => told);
  try {
    await inUse('the current secret, renewed twice,', IDS[0], 0, 2);
    await server.change(IDS[0], 'withdrawn');
    await inUse('the standby', IDS[1], 1, tokensUsed(app));
    const line = app.process.output().split('\n').find((line) => line.includes('rejected') && line.includes(IDS[0]));
    check(`the log says that ${IDS[0]} was rejected`, line !== undefined, 'no such line');
    await server.change(IDS[0], ANEW);
    replace(paths[0], ANEW);
    await inUse('the new secret', IDS[0], 0, tokensUsed(app));
  } finally {
    told = true;
    await requests;
  }
  await sleep(100);
  await judge(app, { renewals: 4, seconds: (Date.now() - began) / 1000, refusals: 2 });
}

let program;
try {
  program = await glewlwyd.unpacked();
} catch (error) {
  console.log(`skipped: glewlwyd cannot be had (${error.message})`);
  process.exit(0);
}
await tell(() => story(program), lastWords);
