// What each client does, in which mode, and what must come of it. What the program cannot do yet is in NOT_YET alone.
import { createHash } from 'node:crypto';

/** The body of uploads and downloads: more than all buffers on the way hold together. */
export const BYTES = Buffer.alloc(3 << 20, 'a body that is not all the same, since its length is odd; ');
const SHA = createHash('sha256').update(BYTES).digest('hex');
const FORM = 'a=1&b=2';

/** What the client must say of each case; `of` is the prefix of its paths. */
export const EXPECTED = {
  get: (of) => `200 GET ${of}/get?q=a%2Fb%20c&x=%C3%BC`,
  request: (of) => `200 GET ${of}/get?q=a%2Fb%20c&x=%C3%BC`,
  http10: (of) => `200 GET ${of}/get?q=a%2Fb%20c&x=%C3%BC`,
  http1: () => '200',
  'h2-upgrade': (of) => `200 GET ${of}/get?q=a%2Fb%20c&x=%C3%BC`,
  'h2-prior-knowledge': (of) => `2 200 GET ${of}/get?q=a%2Fb%20c&x=%C3%BC`,
  version: () => 'HTTP/2',
  'own-credential': (of) => `200 GET ${of}/get?q=a%2Fb%20c&x=%C3%BC`,
  head: () => '200 5',
  'no-content': () => '204',
  missing: () => '404 no such thing',
  form: () => `200 POST ${FORM.length} ${createHash('sha256').update(FORM).digest('hex')}`,
  upload: () => `200 PUT ${BYTES.length} ${SHA}`,
  chunked: () => `200 POST ${BYTES.length} ${SHA}`,
  expect: () => `200 PUT ${BYTES.length} ${SHA}`,
  download: () => `200 ${SHA}`,
  gzip: () => '200 compressed all the way',
  redirect: (of) => `200 GET ${of}/get?from=redirect`,
  'redirect-absolute': (of) => `200 GET ${of}/get?from=absolute`,
  range: () => '206 fghij bytes 5-9/26',
  cookies: () => '200 session=blue',
  events: () => '200 data: one data: two',
  trailers: () => '200 body abc123',
  many: () => '50',
  websocket: () => 'hello 70000',
  'grpc-unary': () => 'OK hello',
  'grpc-streams': () => 'OK one two three',
};

/** How many requests reach the API in a case; one, where nothing is said. */
export const REQUESTS = { many: 50, redirect: 2, 'redirect-absolute': 2, cookies: 2, events: 2 };

const USUAL = [
  'get', 'own-credential', 'head', 'no-content', 'missing', 'form', 'upload', 'chunked', 'download', 'gzip', 'redirect',
  'redirect-absolute', 'range', 'cookies', 'events', 'many',
];
const without = (...cases) => USUAL.filter((name) => !cases.includes(name));

/**
 * `base`: the app has a base URL. `http`: it has a proxy and asks for http://. `https`: it has a proxy and asks for
 * https://, which bearerd decrypts.
 */
export const MODES = ['base', 'http', 'https'];

/** `modes` are all three where nothing is said. `run` is what is run in `apps`, with `tools` that must be there. */
export const CLIENTS = [
  {
    name: 'curl',
    run: ['bash', 'app_curl.sh'],
    tools: ['bash', 'curl', 'sha256sum'],
    cases: [...USUAL, 'http10', 'expect', 'h2-upgrade', 'h2-prior-knowledge'],
    // With a proxy in between curl speaks HTTP/1.1 to it, or negotiates by ALPN what is within.
    only: { 'h2-prior-knowledge': ['base'] },
  },
  { name: 'requests', run: ['python', 'app_requests.py'], cases: USUAL },
  { name: 'httpx', run: ['python', 'app_httpx.py'], cases: [...USUAL, 'version'], only: { version: ['https'] } },
  {
    name: 'httpx-h2c',
    run: ['python', 'app_httpx.py'],
    env: { PRIOR: 'h2' },
    modes: ['base'],
    cases: [...USUAL, 'version'],
  },
  { name: 'aiohttp', run: ['python', 'app_aiohttp.py'], cases: [...USUAL, 'expect', 'websocket'] },
  // It takes a tunnel with whatever proxy.
  { name: 'websockets', run: ['python', 'app_websockets.py'], cases: ['websocket'], modes: ['base', 'https'] },
  { name: 'grpcio', run: ['python', 'app_grpc.py'], cases: ['grpc-unary', 'grpc-streams'], modes: ['base', 'https'] },
  // Without a dispatcher for proxies it can only be given a base URL. No cookie jar, either.
  { name: 'fetch', run: ['node', 'app_fetch.mjs'], cases: without('cookies'), modes: ['base'] },
  { name: 'undici', run: ['node', 'app_undici.mjs'], cases: [...without('cookies'), 'request', 'trailers'] },
  {
    name: 'node-http',
    run: ['node', 'app_http.mjs'],
    cases: [
      ...without('form', 'gzip', 'redirect', 'redirect-absolute', 'range', 'cookies', 'events'), 'expect', 'trailers',
    ],
    modes: ['base'],
  },
  { name: 'ws', run: ['node', 'app_ws.mjs'], cases: ['websocket'], modes: ['base'] },
  {
    name: 'java',
    run: ['java', 'App.java'],
    tools: ['java', 'keytool'],
    // What it trusts is in a file of its own kind, which a property names.
    trust: 'keytool -importcert -noprompt -alias bearerd -file "$NODE_EXTRA_CA_CERTS" -keystore "$STORE" '
      + '-storepass changeit 2>/dev/null; export JDK_JAVA_OPTIONS="-Djavax.net.ssl.trustStore=$STORE '
      + '-Djavax.net.ssl.trustStorePassword=changeit"',    cases: [...USUAL, 'http1', 'expect', 'websocket'],
    // For a WebSocket it takes a tunnel, with whatever proxy. By HTTP/2 it waits for a `100 Continue` for ever, and what
    // hyper serves has none there (nginx has none, either).
    only: { websocket: ['base', 'https'], expect: ['base', 'http'] },
  },
  { name: 'go', run: ['go', 'run', 'app.go'], tools: ['go'], cases: [...USUAL, 'expect', 'trailers'] },
];

/** A proxy client that asks for http:// is led out of it by an absolute https:// link, and that is as it should be. */
export const isMeant = (mode, name) => mode !== 'http' || name !== 'redirect-absolute';
