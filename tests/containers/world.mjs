// The provider and the API on this machine's side of the containers' network, over TLS as everywhere: which client secrets
// are right, how long tokens live, and what was asked for is for the story to say and to read.
import { once } from 'node:events';
import { createServer } from 'node:https';

/** Listens at `address`, a free port of it; `identity` is the certificate and key of the names that containers use. */
export async function world(address, identity) {
  const state = { up: true, secrets: new Set(), life: 3_600, asked: [], seen: [], held: [] };
  const server = createServer({ cert: identity.cert, key: identity.key }, async (request, response) => {
    let body = '';
    for await (const piece of request) body += piece;
    const answer = (status, content) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(content));
    };
    if (request.url === '/token') {
      if (!state.up) return answer(503, {});
      const secret = new URLSearchParams(body).get('client_secret');
      const isRight = state.secrets.has(secret);
      state.asked.push({ secret, isRight });
      if (!isRight) return answer(401, { error: 'invalid_client' });
      const access_token = `token-${state.asked.length}-${secret}`;
      return answer(200, { access_token, token_type: 'Bearer', expires_in: state.life });
    }
    state.seen.push({ path: request.url, authorization: request.headers.authorization, headers: request.headers });
    // Until the story lets it go.
    if (request.url.startsWith('/slow')) await new Promise((go) => state.held.push(go));
    return answer(200, { path: request.url });
  });
  server.on('tlsClientError', () => {});
  await once(server.listen(0, address), 'listening');
  return { state, port: server.address().port, stop: () => server.close() };
}

