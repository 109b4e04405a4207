// nginx with a header that is set to a token that never changes, which flatters it. What its documentation advises for a
// proxy with few pauses: `keepalive` to the upstream with HTTP/1.1 and no `Connection` header, no buffering of either body,
// no access log. It verifies the upstream's certificate and name, which it does not do by default.
import { join } from 'node:path';
import { file, folder } from '../../../tests/oidc-provider/rig.mjs';
import { API_NAME, STATIC_TOKEN, nginxFolders, nginxUser, run } from '../world.mjs';

// It sets room for `worker_connections` aside when it starts, some 400 bytes each: so it has many only where it needs many.
// For large bodies, buffers of a TLS record: a third less CPU. Small answers are cheaper with the default, so they have it.
const LARGE_BUFFERS = `proxy_buffer_size 16k; proxy_buffers 8 16k; proxy_busy_buffers_size 16k;
    client_body_buffer_size 64k;`;

export const nginx = {
  name: 'nginx',
  async find() {
    const program = process.env.NGINX ?? 'nginx';
    try {
      return { program, version: /nginx\/(\S+)/.exec((await run(program, ['-v'])).stderr)[1] };
    } catch {
      return { missing: 'apt-get install nginx-light (or NGINX=path)' };
    }
  },
  configure(found, { caFile, api }, port, _, variant) {
    if (variant.renews) return { cannot: 'its token never changes' };
    if (variant.upstreamHttp2) return { cannot: 'HTTP/2 to an upstream, which is new in 1.29.4, is not configured here' };
    const pass = 'proxy_pass https://api;';
    const locations = variant.routes === undefined ? `location / { ${pass} }`
      : Array.from({ length: variant.routes }, (_, number) => `location /r${number}/ { ${pass} }`).join('\n    ');
    const config = file(`nginx-${variant.name}.conf`, `
${nginxUser()}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${join(folder, `nginx-${variant.name}.pid`)};
error_log ${join(folder, `nginx-${variant.name}-error.log`)};
events { worker_connections ${variant.isCrowded ? 19_000 : 1_024}; }
http {
  ${nginxFolders()}
  access_log ${variant.log ? `${variant.log}-nginx combined buffer=64k flush=1s` : 'off'};
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_max_body_size 0;
  upstream api {
    server 127.0.0.1:${api.http1};
    keepalive 512;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port} ${variant.appHttp2 ? 'http2' : ''} backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host ${API_NAME};
    proxy_set_header Authorization "Bearer ${STATIC_TOKEN}";
    proxy_buffering off;
    ${variant.hasLargeBodies ? LARGE_BUFFERS : ''}
    proxy_request_buffering off;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate ${caFile};
    proxy_ssl_name ${API_NAME};
    proxy_ssl_server_name on;
    ${locations}
  }
}
`);
    return { command: [found.program, '-c', config] };
  },
};
