// The API of this test: it takes only tokens that it can verify by itself with the provider's published keys, and
// reports each request as it really arrived (raw header fields), so that the driver need not trust any answer that
// came back through the proxy. It judges nothing but the token: what is right for a request, the driver knows.
//
// Started by rig.mjs with one JSON argument; tells its parent `{listening: port}` and then every request.
// The provider must be up before it, and NODE_EXTRA_CA_CERTS name the CA.
import { createHash } from 'node:crypto';
import { createServer } from 'node:https';
import { createRemoteJWKSet, jwtVerify } from 'jose';

// `typ` and the claim with the client's identifier are what the provider is known to write.
const { cert, key, issuer, jwks, audience, typ, client } = JSON.parse(process.argv[2]);

// Fetched once here and cached, so that an outage of the provider is none of the API.
const keys = createRemoteJWKSet(new URL(jwks), { cacheMaxAge: Infinity });
await keys.reload();

async function judge(credentials) {
  if (credentials.length !== 1) return { verdict: `${credentials.length} Authorization fields` };
  const [, token] = /^Bearer ([\w.-]+)$/.exec(credentials[0]) ?? [];
  if (token === undefined) return { verdict: 'no bearer' };
  try {
    // jose's default clock tolerance is nought: a token is refused from the second of its `exp` on.
    const { payload } = await jwtVerify(token, keys, {
      issuer,
      audience,
      typ,
      algorithms: ['RS256'],
      requiredClaims: ['exp', 'jti', client],
    });
    return { verdict: 'valid', client: payload[client], jti: payload.jti, token };
  } catch (error) {
    return { verdict: error.code === 'ERR_JWT_EXPIRED' ? 'expired' : `invalid: ${error.message}` };
  }
}

const server = createServer({ cert, key }, async (request, response) => {
  const fields = [];
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    fields.push([request.rawHeaders[i].toLowerCase(), request.rawHeaders[i + 1]]);
  }
  // Judged on arrival: a body that takes its time must not make a good token look expired.
  const judged = await judge(fields.filter(([name]) => name === 'authorization').map(([, value]) => value));

  const digest = createHash('sha256');
  for await (const chunk of request) digest.update(chunk);

  process.send({
    url: request.url,
    ...judged,
    fromApp: fields.filter(([name, value]) => name === 'proxy-authorization' || /forged/i.test(value)).map(String),
  });
  const echo = { method: request.method, url: request.url, host: request.headers.host, sha256: digest.digest('hex') };
  if (judged.verdict === 'valid') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(echo));
  } else {
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end();
  }
});
// Longer than any pause of this test: an API that hangs up on idle connections is another test's matter.
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => process.send({ listening: server.address().port }));

process.on('disconnect', () => process.exit());
