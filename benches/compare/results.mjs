// What a run has found so far: for each load and proxy its figures, round by round, what was void, and what cannot be.
import { summary } from './figures.mjs';

export class Results {
  /** load → proxy → { values: figure → [{ round, value }], cannot, failed: [why], isSaturated } */
  found = {};

  add(round, load, peer, { cannot, failed, isSaturated, ...figures }) {
    const place = (this.found[load] ??= {})[peer] ??= { values: {}, failed: [] };
    if (isSaturated) place.isSaturated = true;
    if (cannot) place.cannot = cannot;
    else if (failed) place.failed.push(failed);
    else for (const [name, value] of Object.entries(figures)) (place.values[name] ??= []).push({ round, value });
  }

  has = (load) => this.found[load] !== undefined;

  /** round → figure, in the row's unit. */
  values({ load, figure, scale }, peer) {
    if (this.isSaturated(load, peer)) return new Map();
    const values = this.found[load]?.[peer]?.values[figure] ?? [];
    return new Map(values.map(({ round, value }) => [round, value * scale]));
  }

  /** Median, least and most in the row's unit; undefined where there is none. */
  of = (row, peer) => summary([...this.values(row, peer).values()]);

  /** Whether a proxy could not keep up with a fixed rate in some round. It then has no figures of that load. */
  isSaturated = (load, peer) => this.found[load]?.[peer]?.isSaturated === true;

  median = (row, peer) => this.of(row, peer)?.median;

  /** Why a proxy has no figures of a load, or has fewer than others. */
  notes() {
    const of = (load, [peer, { cannot, failed }]) => [
      ...(cannot ? [{ load, peer, cannot }] : []),
      ...failed.map((why) => ({ load, peer, failed: why })),
    ];
    return Object.entries(this.found).flatMap(([load, peers]) => Object.entries(peers).flatMap((pair) => of(load, pair)));
  }
}
