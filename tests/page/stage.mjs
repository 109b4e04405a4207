// What stands around the page: a provider that does as it is told, an API, a bearerd between them, and its traffic.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bearerd, eventually, file, freePorts } from '../oidc-provider/rig.mjs';

const BINARY = process.env.BEARERD ?? fileURLToPath(new URL('../../target/debug/bearerd', import.meta.url));
if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}

/** Stands in every secret and every token, and nowhere on the page. */
export const CANARY = `canary${randomBytes(6).toString('hex')}`;

async function listening(handler, port = 0) {
  const server = createServer(handler).listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

const json = (response, status, body) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};

/**
 * A provider: `rules` says for each client how long its tokens live, or that it is `rejected`. `hold()` has it take
 * requests and answer none, `die()` take none at all.
 */
export async function provider(rules) {
  let held = false;
  const handler = (request, response) => {
    request.resume();
    if (held) return;
    const client = Buffer.from((request.headers.authorization ?? '').split(' ')[1] ?? '', 'base64').toString().split(':')[0];
    const rule = rules[client];
    if (rule === undefined || rule === 'rejected') {
      json(response, 401, { error: 'invalid_client' });
      return;
    }
    const token = `${CANARY}.${randomBytes(12).toString('base64url')}`;
    json(response, 200, { access_token: token, token_type: 'Bearer', expires_in: rule });
  };
  const server = await listening(handler);
  const { port } = server.address();
  return {
    url: `http://127.0.0.1:${port}/token`,
    hold() { held = true; },
    async die() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** An API that takes a while, now and then a longer one. */
export const api = async () => (await listening((request, response) => {
  request.resume();
  const takes = request.url.endsWith('7') ? 60 : 4 + 8 * Math.random();
  setTimeout(() => json(response, request.url.endsWith('9') ? 404 : 200, { ok: true }), takes);
})).address().port;

const isOpen = (port) => new Promise((done) => {
  const socket = connect(port, '127.0.0.1', () => done(true)).on('error', () => done(false));
  socket.on('connect', () => socket.destroy());
});

/**
 * A bearerd with this configuration below its addresses; `start` can be called again after `stop`. `tls` is what is said
 * of the admin listener if other machines may use it.
 */
export async function sidecar(name, config, tls) {
  const [listen, admin] = await freePorts(2);
  const place = tls ? `{address: "0.0.0.0:${admin}", allow_remote: true, tls: ${tls}}` : `127.0.0.1:${admin}`;
  const path = file(`${name}.yaml`, `listen: ["127.0.0.1:${listen}"]\nadmin: ${place}\n${config}`);
  const made = {
    name,
    listen,
    origin: `${tls ? 'https' : 'http'}://localhost:${admin}`,
    async start() {
      made.process = bearerd(BINARY, ['run', '--config', path], { PATH: process.env.PATH });
      let how;
      made.process.ended.then((code) => { how = code; });
      await eventually(`${name} answers`, 20, async () => {
        if (how !== undefined) throw new Error(`${name} ended with ${how}: ${made.process.output()}`);
        return isOpen(admin);
      });
      return made;
    },
    async stop() {
      made.process.kill('SIGKILL');
      await made.process.ended;
    },
    status: async () => JSON.parse((await get(admin, '/status')).body),
  };
  return made;
}

/** One GET on a connection of its own. */
export function get(port, path, headers = {}) {
  return new Promise((done, failed) => {
    request({ port, host: '127.0.0.1', path, headers, agent: false, timeout: 30_000 }, (response) => {
      let body = '';
      response.on('data', (data) => { body += data; });
      response.on('end', () => done({ status: response.statusCode, headers: response.headers, body }));
      response.on('error', failed);
    }).on('error', failed).end();
  });
}

/** An app's day in the background, at some requests a second, until the rig ends. */
export function traffic({ listen }, paths, pause = 60) {
  (async () => {
    for (let turn = 0; ; turn += 1) {
      const path = paths[turn % paths.length];
      get(listen, `${path}/${turn % 50}`).catch(() => {});
      // Somebody's web page tries its luck.
      if (turn % 100 === 20) get(listen, '/orders', { origin: 'https://evil.example' }).catch(() => {});
      await sleep(pause);
    }
  })();
}

export const secret = (name) => `{file: ${file(`secret-${name}`, `${CANARY}-secret-of-${name}`)}}`;
