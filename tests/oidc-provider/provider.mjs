// The identity provider of this test: oidc-provider, a certified OpenID provider, so that bearerd meets an
// implementation whose authors never saw bearerd. It runs as a process of its own, because stopping it has to look
// like an outage: connections reset, port closed. Port and keys are handed in, so a restart is the same provider.
//
// It has two ports. The second one asks for a client certificate, and only there `tls_client_auth` can work: who does
// not follow `mtls_endpoint_aliases` is refused.
//
// Started by rig.mjs with one JSON argument; tells its parent `{listening, mtls}` (the ports) and then every token
// request. Takes orders: `{client}` registers one anew, `{forget: id}` removes one, `{revoke: fingerprint}` withdraws
// a certificate.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider, { errors } from 'oidc-provider';

const { port, mtlsPort, cert, key, caFile, jwks, resource, clients } = JSON.parse(process.argv[2]);

const server = createServer({ cert, key });
// Nobody is turned away at the handshake: to a client the provider's own refusal is the interesting one.
const mtlsServer = createServer({ cert, key, ca: readFileSync(caFile), requestCert: true, rejectUnauthorized: false });
server.listen(port, '127.0.0.1');
mtlsServer.listen(mtlsPort, '127.0.0.1');
await Promise.all([once(server, 'listening'), once(mtlsServer, 'listening')]);

const registered = new Map(clients.map((client) => [client.client_id, client]));
const revoked = new Set();

// Clients are looked up anew for each request, so that they can change; of the rest oidc-provider wants it remembered
// (which assertions were used), and nothing outlives this test.
function adapter(model) {
  const known = model === 'Client' ? registered : new Map();
  return {
    find: async (id) => known.get(id),
    upsert: async (id, payload) => { known.set(id, payload); },
    destroy: async (id) => { known.delete(id); },
    consume: async () => {},
    revokeByGrantId: async () => {},
    findByUid: async () => undefined,
    findByUserCode: async () => undefined,
  };
}

const certificateOf = (ctx) => ctx.socket.getPeerX509Certificate?.();

const issuer = `https://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  jwks,
  adapter: class { constructor(model) { return adapter(model); } },
  clientDefaults: { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
  ],
  // What is left out of a client's registration is not kept, so the life is an extra property of it.
  extraClientMetadata: { properties: ['life'] },
  enabledJWA: { clientAuthSigningAlgValues: ['HS256', 'RS256', 'PS256', 'ES256'] },
  ttl: { ClientCredentials: (ctx, token, client) => client.life },
  discovery: { mtls_endpoint_aliases: { token_endpoint: `https://127.0.0.1:${mtlsServer.address().port}/token` } },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => certificateOf(ctx)?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized && !revoked.has(certificateOf(ctx).fingerprint256),
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns' && certificateOf(ctx).subjectAltName === `DNS:${expected}`,
    },
    resourceIndicators: {
      enabled: true,
      // Only a request that names the API gets a JWT; without `resource` it would be an opaque token,
      // which the API refuses: so the parameter is proven to arrive, byte for byte.
      getResourceServerInfo(ctx, asked) {
        if (asked !== resource) throw new errors.InvalidTarget();
        return { scope: '', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } };
      },
    },
  },
});

const part = (jwt, i) => JSON.parse(Buffer.from(jwt.split('.')[i], 'base64url'));

/** Who asks, and how, as the request says: a refused one is of no client that the provider knows. */
function claimed(ctx) {
  const { client_id: id, client_secret: secret, client_assertion: assertion } = ctx.oidc.params ?? {};
  const [, basic] = /^Basic (.*)$/.exec(ctx.get('authorization')) ?? [];
  if (basic !== undefined) {
    const [user] = Buffer.from(basic, 'base64').toString().split(':');
    return { client: decodeURIComponent(user), method: 'client_secret_basic' };
  }
  if (secret !== undefined) return { client: id, method: 'client_secret_post' };
  if (assertion !== undefined) {
    const [{ alg, kid, typ }, { aud }] = [part(assertion, 0), part(assertion, 1)];
    const method = alg.startsWith('HS') ? 'client_secret_jwt' : 'private_key_jwt';
    return { client: id, method, alg, kid, typ, aud, assertion };
  }
  const certificate = certificateOf(ctx)?.fingerprint256;
  return { client: id, method: certificate ? 'tls_client_auth' : 'none', certificate };
}

// Around the provider's own handling, so that refused requests are counted too.
provider.use(async (ctx, next) => {
  await next();
  if (ctx.oidc?.route !== 'token') return;
  process.send({
    ...claimed(ctx),
    outcome: ctx.status === 200 ? 'granted' : `${ctx.status} ${ctx.body.error}: ${ctx.body.error_description}`,
    token: ctx.body.access_token,
    jti: ctx.oidc.entities.ClientCredentials?.jti,
  });
});

process.on('message', ({ client, forget, revoke }) => {
  if (client) registered.set(client.client_id, client);
  if (forget) registered.delete(forget);
  if (revoke) revoked.add(revoke);
});

for (const each of [server, mtlsServer]) each.on('request', provider.callback());
process.send({ listening: server.address().port, mtls: mtlsServer.address().port });

// Leaving on `disconnect` too means that a parent that was killed leaves no provider behind.
process.on('SIGTERM', () => process.disconnect());
process.on('disconnect', () => {
  for (const each of [server, mtlsServer]) {
    each.close();
    each.closeAllConnections();
  }
});
