// What stands around the proxies, alike for all: an identity provider, and an API behind TLS 1.3 that answers 200 to nothing
// but a request with our bearer. nginx serves the API; a provider and a sink for uploads are in this process.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { certificates, eventually, file, folder, freePorts, track } from '../../tests/oidc-provider/rig.mjs';
import { OTHER_CORE, on } from './machine.mjs';

/** Runs a program to its end, which is there within two minutes, and gives what it said. */
export async function run(program, args) {
  try {
    return await promisify(execFile)(program, args, { timeout: 120_000, killSignal: 'SIGKILL' });
  } catch (error) {
    if (error.killed) throw new Error(`${program} ${args.join(' ')} had no end within two minutes`);
    throw error;
  }
}

/** The name in the API's certificate, which every proxy has to verify; they are told the address besides. */
export const API_NAME = 'api.example.test';

/** Bytes of the bearer, which is what a JWT with a few claims has. */
const TOKEN_BYTES = 800;
const TOKEN_START = 'bench-';

/** The large body, each way: a file that takes no room, since there is nothing in it. */
export const LARGE_FILE = join(folder, 'large');

/** A token of the size, with its number in it. */
const token = (number) => `${TOKEN_START}${String(number).padStart(TOKEN_BYTES - TOKEN_START.length, '0')}`;

/** What the proxies that fetch none put on. */
export const STATIC_TOKEN = token(0);
export const staticTokenFile = () => file('token', STATIC_TOKEN);

/** Starts a program in a process group of its own, which ends when this process does. */
export function begin(command, options = {}) {
  const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...options });
  const end = (signal) => {
    try {
      process.kill(-child.pid, signal);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  };
  track(child, () => end('SIGKILL'));
  let said = '';
  // A long run of a talkative program: its last words are enough.
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data) => { said = (said + data).slice(-100_000); });
  }
  const ended = new Promise((done) => {
    child.once('error', (error) => { said += error.message; done(error.code); });
    child.once('exit', (code, signal) => done(code ?? signal));
  });
  return {
    pid: child.pid,
    input: child.stdin,
    said: () => said,
    /** When it has said that. */
    says: (what) => eventually(`${command.join(' ')} says ${what}`, 60, () => said.includes(what)),
    ended,
    end,
  };
}

/** Ends it by a signal that lets it tidy up, and by force if that takes too long. */
export async function finish(running) {
  running.end('SIGTERM');
  const patience = setTimeout(() => running.end('SIGKILL'), 3_000);
  await running.ended;
  clearTimeout(patience);
  // A worker that outlived its master.
  running.end('SIGKILL');
}

export const listens = (port) => new Promise((done) => {
  const socket = connect(port, '127.0.0.1', () => { socket.destroy(); done(true); });
  socket.on('error', () => done(false));
});

/** Grants tokens to whoever asks. The path says how many seconds they are to live, and who asks. */
async function provider() {
  const issued = new Map();
  let number = 0;
  const server = createServer((asked, response) => {
    asked.resume().on('end', () => {
      const [, life, name] = asked.url.split('/');
      issued.set(name, (issued.get(name) ?? 0) + 1);
      number += 1;
      const grant = { access_token: token(number), token_type: 'Bearer', expires_in: Number(life) };
      const body = JSON.stringify(grant);
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  return { port, url: (life, name) => `http://127.0.0.1:${port}/${life}/${name}`, issued: (name) => issued.get(name) ?? 0 };
}

/** Counts what is sent to it, and says how much that was. */
async function sink() {
  const path = join(folder, 'sink');
  const server = createServer((asked, response) => {
    let bytes = 0;
    asked.on('data', (data) => { bytes += data.length; });
    asked.on('end', () => response.end(`${bytes}`));
  }).listen({ path, readableAll: true, writableAll: true });
  server.requestTimeout = 0;
  await once(server, 'listening');
  return path;
}

/** As root nginx would become somebody who may not read the files of this run. */
export const nginxUser = () => (process.getuid() === 0 ? 'user root;' : '');

/** Where nginx keeps what it would else keep in the system's folders. */
export const nginxFolders = () => ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  .map((what) => `${what}_temp_path ${join(folder, `nginx-${what}`)};`).join(' ');

async function api([certificate, key], sinkPath, large) {
  const [http1, http2, status] = await freePorts(3);
  writeFileSync(LARGE_FILE, '');
  truncateSync(LARGE_FILE, large);
  // Long lives and no logs: what is measured is in front of it. The token is known by its beginning and its length. With one
  // cipher all pay the same for it, whichever they would rather have.
  const config = file('api.conf', `
${nginxUser()}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${join(folder, 'api.pid')};
error_log ${join(folder, 'api-error.log')};
events { worker_connections 18000; }
http {
  ${nginxFolders()}
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_header_buffer_size 4k;
  client_max_body_size 0;
  map $http_authorization $authorized {
    default 0;
    "~^Bearer ${TOKEN_START}[0-9]{${TOKEN_BYTES - TOKEN_START.length}}$" 1;
  }
  server {
    listen 127.0.0.1:${http1} ssl backlog=4096;
    listen 127.0.0.1:${http2} ssl http2 backlog=4096;
    server_name ${API_NAME};
    ssl_certificate ${certificate};
    ssl_certificate_key ${key};
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
    http2_max_concurrent_streams 256;
    if ($authorized = 0) { return 401; }
    location / { default_type text/plain; return 200 "${'b'.repeat(100)}"; }
    location = /large { alias ${LARGE_FILE}; }
    location = /swallow {
      proxy_pass http://unix:${sinkPath}:/;
      proxy_http_version 1.1;
      proxy_request_buffering off;
    }
  }
  server {
    listen 127.0.0.1:${status};
    location / { stub_status; }
  }
}
`);
  const running = begin(on(OTHER_CORE, 'nginx', '-c', config));
  await Promise.race([
    running.ended.then(() => { throw new Error(`the API's nginx ended: ${running.said()}`); }),
    eventually('the API listens', 20, () => listens(http1)),
  ]);
  return {
    http1,
    http2,
    /** How many requests it has taken so far. */
    async taken() {
      const options = { headers: { connection: 'close' }, signal: AbortSignal.timeout(10_000) };
      const page = await (await fetch(`http://127.0.0.1:${status}/`, options)).text();
      return Number(/^ \d+ \d+ (\d+)/m.exec(page)[1]);
    },
  };
}

/** Starts all of it. `load` is a program; the large body has so many bytes. Whatever NGINX says, the API is the system's. */
export async function world(load, large) {
  const [caFile, identity] = await certificates(`DNS:${API_NAME}`);
  const pem = file('api.pem', identity.cert);
  const key = file('api.key', identity.key);
  const tokens = await provider();
  return { caFile, load, large, tokens, api: await api([pem, key], await sink(), large) };
}
