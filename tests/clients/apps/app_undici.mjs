// undici, which fetch is made of, with the agent that reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
import { EnvHttpProxyAgent, fetch, request, setGlobalDispatcher } from 'undici';
import { BASE, QUERY, byFetch, run } from './common.mjs';

setGlobalDispatcher(new EnvHttpProxyAgent({ proxyTunnel: false }));

await run({
  ...byFetch(fetch),
  request: async () => {
    const { statusCode, body } = await request(`${BASE}${QUERY}`);
    return `${statusCode} ${await body.text()}`;
  },
  trailers: async () => {
    const answer = await request(`${BASE}/trailers`, { headers: { te: 'trailers' } });
    const text = await answer.body.text();
    return `${answer.statusCode} ${text} ${answer.trailers['x-checksum']}`;
  },
  expect: async () => 'not offered',
});
