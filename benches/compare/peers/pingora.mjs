// A small proxy on Pingora, in ../pingora: one thread, its own pool, a filter that sets the header to a token that never
// changes, which flatters it. Certificate and name are verified.
import { readFileSync } from 'node:fs';
import { crate } from '../crates.mjs';
import { API_NAME, staticTokenFile } from '../world.mjs';

const LOCK = new URL('../pingora/Cargo.lock', import.meta.url);

export const pingora = {
  name: 'Pingora',
  async find() {
    const { program, missing } = await crate('pingora');
    const [, version] = /^name = "pingora"\nversion = "(.*)"$/m.exec(readFileSync(LOCK, 'utf8'));
    return { program, version, missing: missing && `${missing}. It needs a C compiler, perl and make, for its OpenSSL` };
  },
  configure(found, { caFile, api }, port, _, variant) {
    if (variant.renews) return { cannot: 'its token never changes' };
    if (variant.routes !== undefined) return { cannot: 'a framework: routes are code' };
    if (variant.log) return { cannot: 'a framework: a log is code' };
    const flags = [...(variant.upstreamHttp2 ? ['h2-upstream'] : []), ...(variant.appHttp2 ? ['h2-app'] : [])];
    const target = variant.upstreamHttp2 ? api.http2 : api.http1;
    return { command: [found.program, port, target, API_NAME, caFile, staticTokenFile(), ...flags].map(String) };
  },
};
