// The order of things: every round starts every proxy anew, visits them one after the other with each load, and begins with
// another one each time, so that what drifts on the machine meets all alike.
import { eventually, freePorts } from '../../tests/oidc-provider/rig.mjs';
import { PROXY_CORE, on } from './machine.mjs';
import { begin, finish } from './world.mjs';

/** Seconds in which a proxy has to be there with its token. */
const PATIENCE = 20;

const answers = async (port, path) => {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } });
    await answer.arrayBuffer();
    return answer.status === 200;
  } catch {
    return false;
  }
};

/** How a peer is started for a variant, or why it cannot be. */
export async function command(peer, around, variant) {
  const [port, ...more] = await freePorts(2);
  return { port, ...peer.configure(peer.found, around, port, more, variant) };
}

/** Starts a peer and waits for its first 200; null where it cannot do what is asked of it. */
async function started(peer, around, variant) {
  const { port, cannot, command: words, env } = await command(peer, around, variant);
  if (cannot) return { cannot };
  const running = begin(on(PROXY_CORE, ...words), env ? { env: { ...process.env, ...env } } : {});
  let isOver = false;
  running.ended.then(() => { isOver = true; });
  await eventually(`${peer.name} answers`, PATIENCE, () => {
    if (isOver) throw new Error(`${peer.name} ended: ${running.said()}`);
    return answers(port, variant.path ?? '/');
  }).catch((error) => { throw new Error(`${error.message}\n${running.said()}`); });
  return { pid: running.pid, port, running };
}

/** The same list, beginning with another one in each round. */
const turned = (list, round) => list.map((_, i) => list[(i + round) % list.length]);

/**
 * Runs loads against peers. `tell(load, peer, outcome)` hears of each outcome, which is the figures by name, or
 * `{ cannot }`, or `{ failed }`.
 */
export async function rounds(count, loads, peers, around, effort, tell) {
  const variants = [...new Map(loads.map(({ variant }) => [variant.name, variant])).values()];
  for (let round = 0; round < count; round += 1) {
    for (const variant of variants) {
      const proxies = new Map();
      for (const peer of peers) {
        proxies.set(peer, await started(peer, around, variant).catch((error) => ({ failed: error.message })));
      }
      for (const load of loads.filter((one) => one.variant.name === variant.name)) {
        for (const peer of turned(peers, round)) {
          const proxy = proxies.get(peer);
          const outcome = proxy.pid === undefined ? proxy
            : await load.measure(around, proxy, effort).catch((error) => ({ failed: error.message }));
          tell(round, load, peer, outcome);
        }
      }
      await Promise.all([...proxies.values()].map(({ running }) => running && finish(running)));
    }
  }
}
