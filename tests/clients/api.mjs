// The API and the token endpoint of this rig, behind TLS: HTTP/1.1 and HTTP/2 by ALPN, as most APIs have it. It does
// what APIs do (echo, redirect, compress, stream, upgrade, answer gRPC), takes only the one token that it issued, and
// reports each request as it really arrived, so that the driver need not trust any answer that came through the proxy.
//
// Started by the rig with one JSON argument; tells its parent `{listening}` and then every request, when it is over.
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';
import { gzipSync } from 'node:zlib';
import { WebSocketServer } from 'ws';

const { cert, key, upload } = JSON.parse(process.argv[2]);
const BYTES = readFileSync(upload);

const token = randomBytes(24).toString('base64url');

/** What is right for a path without its prefix; everything else is not there. */
const ANSWERS = {
  'GET /token': (request, response) => json(response, { access_token: token, token_type: 'Bearer', expires_in: 3600 }),
  'GET /get': echo,
  'GET /orders/7': (request, response) => json(response, { order: 7 }),
  'POST /orders': (request, response, body) => json(response, { took: body.toString() }),
  'GET /missing': (request, response) => text(response, 404, 'no such thing'),
  'HEAD /get': (request, response) => response.writeHead(200, { 'content-length': 5 }).end(),
  'DELETE /thing': (request, response) => response.writeHead(204).end(),
  'POST /form': echoBody,
  'PUT /upload': echoBody,
  'POST /upload': echoBody,
  'GET /download': (request, response) => {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': BYTES.length }).end(BYTES);
  },
  'GET /gzip': (request, response) => {
    const packed = /\bgzip\b/.test(request.headers['accept-encoding']);
    response.writeHead(200, { 'content-type': 'text/plain', ...(packed && { 'content-encoding': 'gzip' }) });
    response.end(packed ? gzipSync('compressed all the way') : 'nobody asked for gzip');
  },
  'GET /redirect': (request, response, body, prefix) => {
    response.writeHead(302, { location: `${prefix}/get?from=redirect` }).end();
  },
  // Absolute, as most frameworks write it: it leads out of the API's own mouth, by https.
  'GET /redirect-absolute': (request, response, body, prefix) => {
    response.writeHead(302, { location: `https://api.example.com${prefix}/get?from=absolute` }).end();
  },
  'GET /range': (request, response) => {
    const letters = 'abcdefghijklmnopqrstuvwxyz';
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range);
    const range = `bytes ${from}-${to}/${letters.length}`;
    response.writeHead(206, { 'content-range': range }).end(letters.slice(Number(from), Number(to) + 1));
  },
  'GET /set-cookie': (request, response, body, prefix) => {
    response.writeHead(200, { 'set-cookie': `session=blue; Path=${prefix}; HttpOnly` }).end('set');
  },
  'GET /cookie': (request, response) => text(response, 200, request.headers.cookie ?? 'no cookie'),
  // The second event is sent when the first one has been acknowledged: whoever holds back an event holds up all.
  'GET /events': (request, response, body, prefix) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: one\n\n');
    acknowledged.set(prefix, () => response.end('data: two\n\n'));
  },
  'GET /acknowledge': (request, response, body, prefix) => {
    acknowledged.get(prefix)?.();
    response.writeHead(204).end();
  },
  'GET /trailers': (request, response) => {
    response.writeHead(200, { trailer: 'x-checksum' });
    response.write('body');
    response.addTrailers({ 'x-checksum': 'abc123' });
    response.end();
  },
};
const acknowledged = new Map();

const sha256 = (data) => createHash('sha256').update(data).digest('hex');
function text(response, status, words) {
  response.writeHead(status, { 'content-type': 'text/plain' }).end(words);
}
function json(response, value) {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}
function echo(request, response) {
  text(response, 200, `${request.method} ${request.url}`);
}
function echoBody(request, response, body) {
  text(response, 200, `${request.method} ${body.length} ${sha256(body)}`);
}

/** What arrived: how often each credential, and what the app sent of its own. */
function arrival(request) {
  const fields = [];
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    fields.push([request.rawHeaders[i].toLowerCase(), request.rawHeaders[i + 1]]);
  }
  const credentials = fields.filter(([name]) => name === 'authorization').map(([, value]) => value);
  const isOurs = credentials.length === 1 && credentials[0] === `Bearer ${token}`;
  return {
    method: request.method,
    url: request.url,
    host: request.headers[':authority'] ?? request.headers.host,
    version: request.httpVersion,
    credentials: isOurs ? 'ours' : `${credentials.length}: ${credentials.map((one) => one.split(' ')[0])}`,
    fromApp: fields.filter(([name, value]) => name === 'proxy-authorization' || /forged/i.test(value)).map(String),
    headers: Object.fromEntries(fields),
  };
}

const isGrpc = (request) => request.headers['content-type']?.startsWith('application/grpc');

/** `/echo.Echo/…`: every message comes back as it is, and the status at the end. */
function grpc(request, response) {
  response.writeHead(200, { 'content-type': 'application/grpc' });
  request.pipe(response, { end: false });
  request.on('end', () => {
    response.addTrailers({ 'grpc-status': '0' });
    response.end();
  });
}

async function answer(request, response) {
  const seen = arrival(request);
  if (request.url === '/token') {
    for await (const chunk of request) void chunk;
    ANSWERS['GET /token'](request, response);
    return;
  }
  response.on('close', () => process.send({ ...seen, status: response.statusCode }));
  if (seen.credentials !== 'ours') {
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end();
    return;
  }
  if (isGrpc(request)) {
    grpc(request, response);
    return;
  }
  const chunks = [];
  try {
    for await (const chunk of request) chunks.push(chunk);
  } catch {
    return;
  }
  // `/client/mode` goes first, so that the driver knows whose a request is.
  const { pathname } = new URL(request.url, 'https://api.example.com');
  const [, prefix = '', path] = /^(\/of\/[\w-]+)?(\/.*)$/.exec(pathname);
  const known = ANSWERS[`${request.method} ${path}`];
  if (known) known(request, response, Buffer.concat(chunks), prefix);
  else text(response, 404, `${request.method} ${path} is not here`);
}

const server = createSecureServer({ cert, key, allowHTTP1: true }, answer);
const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] });
server.on('upgrade', (request, socket, head) => {
  const seen = arrival(request);
  socket.on('error', () => {});
  if (request.headers.upgrade?.toLowerCase() !== 'websocket' || seen.credentials !== 'ours') {
    process.send({ ...seen, status: 400 });
    socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    return;
  }
  sockets.handleUpgrade(request, socket, head, (peer) => {
    process.send({ ...seen, status: 101 });
    peer.on('message', (data, binary) => peer.send(data, { binary }));
  });
});
server.on('sessionError', () => {});
server.listen(0, '127.0.0.1', () => process.send({ listening: server.address().port }));
process.on('disconnect', () => process.exit());
