// What stands on the other side of the machine's network: an identity provider and an API, by TLS, on 203.0.113.10.
//
//   node world.mjs '{"key": PEM, "cert": PEM, "secret": TEXT}'
//
// A line of JSON comes out for each request that arrives. A line on standard input,
// `{"secret": TEXT, "revoke": BOOLEAN}`, says which secret counts from then on, and whether the tokens until then still do.
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';

const { key, cert, secret } = JSON.parse(process.argv[2]);
const ISSUER = 'https://id.example.com';
let good = secret;
let granted = 0;
let revoked = 0;

const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const server = createServer({ key, cert }, async (request, response) => {
  let body = '';
  for await (const piece of request) body += piece;
  const answer = (status, content, headers = {}) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(content));
  };
  const { host, authorization } = request.headers;
  if (host === 'id.example.com') {
    if (request.url === '/.well-known/openid-configuration') {
      const methods = ['client_secret_basic'];
      return answer(200, {
        issuer: ISSUER, token_endpoint: `${ISSUER}/token`, token_endpoint_auth_methods_supported: methods,
      });
    }
    const [client, shown] = Buffer.from(authorization?.replace(/^Basic /, '') ?? '', 'base64').toString().split(':');
    const is = shown === encodeURIComponent(good);
    tell({ at: 'provider', client, granted: is });
    if (!is) return answer(401, { error: 'invalid_client' }, { 'www-authenticate': 'Basic realm="id"' });
    granted += 1;
    return answer(200, { access_token: `token-${granted}`, token_type: 'Bearer', expires_in: 3_600 });
  }
  const is = Number(/^Bearer token-(\d+)$/.exec(authorization)?.[1] ?? 0) > revoked;
  tell({ at: 'api', path: request.url, authorization, good: is });
  return answer(is ? 200 : 401, { path: request.url }, is ? {} : { 'www-authenticate': 'Bearer error="invalid_token"' });
});
server.listen(443, '203.0.113.10', () => tell({ at: 'world' }));
createInterface({ input: process.stdin }).on('line', (line) => {
  const { secret, revoke } = JSON.parse(line);
  good = secret;
  if (revoke) revoked = granted;
  tell({ at: 'secret' });
}).on('close', () => process.exit(0));
