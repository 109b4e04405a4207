// The identity provider of this test: oidc-provider, a certified OpenID provider, so that bearerd meets an
// implementation whose authors never saw bearerd. It runs as a process of its own, because stopping it has to look
// like an outage: connections reset, port closed. Port and keys are handed in, so a restart is the same provider.
//
// Started by rig.mjs with one JSON argument; tells its parent `{listening: port}` and then every token request.
import { createServer } from 'node:https';
import Provider, { errors } from 'oidc-provider';

const { port, cert, key, jwks, resource, secret, clients } = JSON.parse(process.argv[2]);

const server = createServer({ cert, key });
server.listen(port, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks,
    clients: clients.map(({ id, auth }) => ({
      client_id: id,
      client_secret: secret,
      token_endpoint_auth_method: auth,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    clientAuthMethods: ['client_secret_basic', 'client_secret_post'],
    ttl: { ClientCredentials: (ctx, token, client) => clients.find(({ id }) => id === client.clientId).life },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
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

  // Around the provider's own handling, so that refused requests are counted too.
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route !== 'token') return;
    process.send({
      client: ctx.oidc.client?.clientId,
      method: ctx.get('authorization').startsWith('Basic ') ? 'client_secret_basic' : 'client_secret_post',
      outcome: ctx.status === 200 ? 'granted' : `${ctx.status} ${ctx.body.error}: ${ctx.body.error_description}`,
      token: ctx.body.access_token,
      jti: ctx.oidc.entities.ClientCredentials?.jti,
    });
  });

  server.on('request', provider.callback());
  process.send({ listening: server.address().port });
});

// Leaving on `disconnect` too means that a parent that was killed leaves no provider behind.
process.on('SIGTERM', () => process.disconnect());
process.on('disconnect', () => {
  server.close();
  server.closeAllConnections();
});
