// The rows of tests/paths.tsv, which says itself what stands in it.
import { readFileSync } from 'node:fs';

const ESCAPE = /\\(?:x(?<hex>[0-9a-f]{2})|(?<upstream>@)|(?<backslash>\\)|(?<times>\d+)\*\((?<text>[^)]*)\))/g;

/** Its rows: what the target looks like, the verdict, and the bytes of the target by the upstream's authority. */
export const rows = readFileSync(new URL('../paths.tsv', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line, number) => {
    const [written, verdict, trick] = line.split('\t');
    const target = (upstream) => Buffer.from(written, 'utf8').toString('latin1').replace(ESCAPE, (...match) => {
      const { hex, backslash, times, text } = match.at(-1);
      if (hex) return String.fromCharCode(parseInt(hex, 16));
      if (times) return text.repeat(Number(times));
      return backslash ?? upstream;
    });
    return { number, written, verdict, trick, target };
  });

/** What the upstream gets of a target: the path and query of a URL, and never a fragment (RFC 9110, section 7.1). */
export const sent = (target) => target.replace(/^http:\/\/[^/]*/i, '').replace(/#.*$/, '');
