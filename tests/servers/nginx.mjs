// nginx with TLS, HTTP/2 and HTTP/1.1, that ends each connection after 50 requests: by GOAWAY, or by `Connection:
// close`. It answers a GET itself and hands a POST to a server that echoes the body. Its log says what it took: which
// request, by which protocol, on which connection, and with which token.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { listens } from '../decoders/servers.mjs';
import { eventually, file, folder, freePorts, track } from '../oidc-provider/rig.mjs';

/** Requests of one connection. nginx's own default is 1000. */
export const EACH = 50;

/** `name` is that of its files. */
export async function start(name, { nginx, env }, { cert, key }) {
  const [port] = await freePorts(1);
  const behind = join(folder, `${name}.echo`);
  const log = join(folder, `${name}.log`);
  const echo = createServer((request, response) => request.pipe(response)).listen(behind);
  echo.keepAliveTimeout = 120_000;
  echo.unref();
  await once(echo, 'listening');
  // As root it gives that up, and must be able to reach the socket then.
  if (process.getuid() === 0) {
    chmodSync(folder, 0o711);
    chmodSync(behind, 0o777);
  }
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const config = file(`${name}.conf`, `
daemon off;
worker_processes 1;
pid ${join(folder, `${name}.pid`)};
error_log ${join(folder, `${name}-error.log`)};
events { worker_connections 4096; }
http {
  ${temporary.map((what) => `${what}_temp_path ${join(folder, `nginx-${what}`)};`).join('\n  ')}
  log_format row escape=none '$http_x_row $request_method $status $server_protocol $connection $http_authorization';
  access_log ${log} row;
  keepalive_requests ${EACH};
  upstream echo { server unix:${behind}; keepalive 64; }
  server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate ${file('nginx.pem', cert)};
    ssl_certificate_key ${file('nginx.key', key)};
    location / { return 200 "fine"; }
    location /echo {
      proxy_pass http://echo;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
}
`);
  const child = track(spawn(nginx, ['-c', config], { env, stdio: ['ignore', 'pipe', 'pipe'] }), () => {
    // Its worker goes with it only when it is asked.
    child.kill('SIGTERM');
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
  const ended = once(child, 'close');
  await Promise.race([
    ended.then(() => { throw new Error(`nginx ended: ${said}`); }),
    eventually('nginx listens', 20, () => listens(port)),
  ]);
  return {
    port,
    /** Ends it, and reads its log. */
    async stop() {
      child.kill('SIGQUIT');
      await ended;
      echo.close();
      return readFileSync(log, 'utf8').split('\n').filter(Boolean).map((line) => {
        const [row, method, status, protocol, connection, scheme, token] = line.split(' ');
        return { row, method, status, protocol, connection, scheme, token };
      });
    },
  };
}
