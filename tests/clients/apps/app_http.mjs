// Node's http module: no proxy, no redirects, no gzip, but all of the protocol: trailers and Expect.
import http from 'node:http';
import https from 'node:https';
import { BASE, FORGED, QUERY, chunks, run, sha256, upload } from './common.mjs';

const agent = new http.Agent({ keepAlive: true });

/** One exchange; `send` gets the request. */
function ask(path, { send = (request) => request.end(), ...options } = {}) {
  return new Promise((done, failed) => {
    const url = new URL(`${BASE}${path}`);
    const request = (url.protocol === 'https:' ? https : http).request(url, { agent, ...options });
    request.on('error', failed).on('response', async (response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      done({ response, body: Buffer.concat(parts), text: `${response.statusCode} ${Buffer.concat(parts)}` });
    });
    send(request);
  });
}

const text = async (...of) => (await ask(...of)).text;

await run({
  get: () => text(QUERY),
  'own-credential': () => text(QUERY, { headers: FORGED }),
  head: async () => {
    const { response, body } = await ask('/get', { method: 'HEAD' });
    return `${response.statusCode} ${response.headers['content-length']} ${body}`;
  },
  'no-content': () => text('/thing', { method: 'DELETE' }),
  missing: () => text('/missing'),
  upload: () => text('/upload', { method: 'PUT', send: (request) => request.end(upload()) }),
  chunked: () => text('/upload', { method: 'POST', send: (request) => chunks().pipe(request) }),
  expect: () => text('/upload', {
    method: 'PUT',
    headers: { expect: '100-continue', 'content-length': upload().length },
    send: (request) => {
      // Without the word to go on nothing is sent, and the case does not end.
      request.on('continue', () => request.end(upload()));
      request.flushHeaders();
    },
  }),
  download: async () => {
    const { response, body } = await ask('/download');
    return `${response.statusCode} ${sha256(body)}`;
  },
  trailers: async () => {
    const { response, text: said } = await ask('/trailers', { headers: { te: 'trailers' } });
    return `${said} ${response.trailers['x-checksum']}`;
  },
  many: async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => text(QUERY)));
    return answers.filter((answer) => answer.startsWith('200 ')).length;
  },
});
