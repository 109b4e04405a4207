// bearerd with its defaults: routing, guards, header hygiene, metrics and the rule for a 401 are on, the access log is off
// unless it is what is measured. Its token comes from the provider, and is renewed.
import { file } from '../../../tests/oidc-provider/rig.mjs';
import { bearerdBinary } from '../crates.mjs';
import { API_NAME, run } from '../world.mjs';

/** `found` gives the program. Two builds can stand side by side, under two names. */
export const build = (name, binary) => ({
  name,
  async find() {
    const { program, missing } = await binary();
    if (missing) return { missing };
    return { program, version: (await run(program, ['--version'])).stdout.trim().replace('bearerd ', '') };
  },
  configure(found, { caFile, tokens, api }, port, [admin], variant) {
    const target = variant.upstreamHttp2 ? api.http2 : api.http1;
    const route = {
      upstream: `https://${API_NAME}:${target}`,
      connect_to: `127.0.0.1:${target}`,
      tls: { ca_file: caFile },
    };
    const routes = variant.routes === undefined ? [route]
      : Array.from({ length: variant.routes }, (_, i) => ({ name: `r${i}`, match: { path: `/r${i}` }, ...route }));
    const config = file(`${name}-${variant.name}.json`, JSON.stringify({
      listen: [`127.0.0.1:${port}`],
      admin: `127.0.0.1:${admin}`,
      ...(variant.log ? { access_log: `${variant.log}-${name}` } : {}),
      tokens: {
        api: {
          token_url: tokens.url(variant.life, name),
          client_id: 'bench',
          client_secret: { file: file('secret', 'a secret') },
        },
      },
      routes,
    }));
    return { command: [found.program, 'run', '--config', config] };
  },
});

export const bearerd = build('bearerd', bearerdBinary);
