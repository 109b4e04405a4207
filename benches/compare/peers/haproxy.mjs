// HAProxy with a header that is set to a token that never changes, which flatters it. What its documentation advises for a
// proxy on one core: one thread, `http-reuse always` with a pool that is large enough, no log. The server's certificate and
// name are verified. `tune.idle-pool.shared` and buffers are as they come.
import { file } from '../../../tests/oidc-provider/rig.mjs';
import { API_NAME, STATIC_TOKEN, run } from '../world.mjs';

export const haproxy = {
  name: 'HAProxy',
  async find() {
    const program = process.env.HAPROXY ?? 'haproxy';
    try {
      return { program, version: /version (\d[\w.]*)/.exec((await run(program, ['-v'])).stdout)[1] };
    } catch {
      return { missing: 'apt-get install haproxy (or HAPROXY=path)' };
    }
  },
  configure(found, { caFile, api }, port, _, variant) {
    if (variant.renews) return { cannot: 'its token never changes' };
    const target = variant.upstreamHttp2 ? api.http2 : api.http1;
    // A map of prefixes is its own way to have many routes: one lookup in a tree, which names the backend.
    const map = variant.routes && file(`haproxy-${variant.name}.map`,
      Array.from({ length: variant.routes }, (_, number) => `/r${number}/ api\n`).join(''));
    const config = file(`haproxy-${variant.name}.cfg`, `
global
  nbthread 1
  maxconn ${variant.isCrowded ? 12_000 : 1_000}
  no strict-limits
  ssl-default-server-options ssl-min-ver TLSv1.3
${variant.log ? '  log stdout format raw local0' : ''}
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
${variant.log ? '  log global\n  option httplog' : ''}
frontend app
  bind 127.0.0.1:${port} ${variant.appHttp2 ? 'proto h2' : ''} backlog 4096
  ${map ? `use_backend %[path,map_beg(${map})]` : 'default_backend api'}
backend api
  http-reuse always
  http-request set-header Host ${API_NAME}
  http-request set-header Authorization "Bearer ${STATIC_TOKEN}"
  server api 127.0.0.1:${target} ssl verify required ca-file ${caFile} verifyhost ${API_NAME} sni str(${API_NAME}) \
alpn ${variant.upstreamHttp2 ? 'h2' : 'http/1.1'} pool-max-conn -1 pool-purge-delay 600s
`);
    // It writes its log to a pipe or to a file; here to a file, like the others.
    return { command: [found.program, '-db', '-f', config], output: variant.log && `${variant.log}-HAProxy` };
  },
};
