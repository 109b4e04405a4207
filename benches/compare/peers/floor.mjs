// The floor, in ../floor: a byte pump on tokio and rustls, which all others are measured against. Its token never changes.
import { readFileSync } from 'node:fs';
import { crate } from '../crates.mjs';
import { API_NAME, staticTokenFile } from '../world.mjs';

const LOCK = new URL('../floor/Cargo.lock', import.meta.url);

export const floor = {
  name: 'floor',
  async find() {
    const { program, missing } = await crate('floor');
    const [, version] = /^name = "rustls"\nversion = "(.*)"$/m.exec(readFileSync(LOCK, 'utf8'));
    return { program, missing, version: `rustls ${version}` };
  },
  configure(found, { caFile, api }, port, _, variant) {
    if (variant.renews) return { cannot: 'its token never changes' };
    if (variant.upstreamHttp2 || variant.appHttp2) return { cannot: 'the floor knows bytes of HTTP/1.1 alone' };
    if (variant.routes !== undefined) return { cannot: 'the floor has no routes' };
    if (variant.log) return { cannot: 'the floor has no log' };
    return { command: [found.program, port, api.http1, API_NAME, caFile, staticTokenFile()].map(String) };
  },
};
