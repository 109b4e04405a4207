// Node's own fetch. It reads no variable by itself (before Node 24), so a proxy is what `undici` is there for.
import { byFetch, run } from './common.mjs';

await run(byFetch(fetch));
