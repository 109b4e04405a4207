// The order of things: every round starts every proxy anew and visits them one after the other with each load, in another
// order each time, so that what drifts on the machine meets all alike, and nobody has always the same one before it.
import { createHash } from 'node:crypto';
import { openSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, freePorts } from '../../tests/oidc-provider/rig.mjs';
import { PROXY_CORE, on, spending } from './machine.mjs';
import { begin, finish } from './world.mjs';

/** Seconds in which a proxy has to be there with its token, and again in which it has to have nothing more to do. */
const PATIENCE = 20;

/** Milliseconds in which an answer has to come, or it is asked for again. */
const ANSWER = 5_000;

/** Whether it has a 200 for us. */
const answers = (port, { path = '/', appHttp2 }) => new Promise((done) => {
  if (appHttp2) {
    const session = connect(`http://127.0.0.1:${port}`).on('error', () => done(false));
    session.setTimeout(ANSWER, () => session.destroy(new Error('no answer')));
    session.request({ ':path': path })
      .on('response', (headers) => done(headers[':status'] === 200))
      .on('error', () => done(false))
      .on('close', () => session.destroy())
      .resume();
    return;
  }
  // Nobody is asked to close: the floor would pass that on.
  const agent = new Agent({ keepAlive: true });
  const asked = request({ port, host: '127.0.0.1', path, agent }, (answer) => {
    answer.resume().on('end', () => done(answer.statusCode === 200)).on('error', () => done(false));
  });
  asked.setTimeout(ANSWER, () => asked.destroy());
  asked.on('error', () => done(false)).on('close', () => agent.destroy()).end();
});

/**
 * Starts a peer and waits for its first 200, and until it uses no more than 1 % of its core; gives `{ cannot }` where it
 * cannot do what is asked of it.
 */
async function started(peer, around, variant, [port, ...more]) {
  const { cannot, command, output } = peer.configure(peer.found, around, port, more, variant);
  if (cannot) return { cannot };
  if (variant.isCold) return { port, command };
  // Else a round would write behind what the one before has written.
  if (variant.log) rmSync(`${variant.log}-${peer.name}`, { force: true });
  const words = on(PROXY_CORE, ...command);
  const running = begin(words, output ? { stdio: ['ignore', openSync(output, 'a'), 'pipe'] } : {});
  let isOver = false;
  running.ended.then(() => { isOver = true; });
  try {
    await eventually(`${peer.name} answers`, PATIENCE, () => {
      if (isOver) throw new Error(`${peer.name} ended`);
      return answers(port, variant);
    });
    // What it still does after its start is not what a request costs: bearerd reads its configuration once more.
    await eventually(`${peer.name} comes to rest`, PATIENCE, async () => {
      const spent = spending(running.pid);
      await sleep(500);
      return spent() < 0.01 * 500e6;
    });
  } catch (error) {
    await finish(running);
    throw new Error(`${error.message}: ${running.said()}`);
  }
  return { pid: running.pid, port, running };
}

/** Starts all of them at the same time. */
export async function all(peers, around, variant) {
  // At once, so that none gets a port that another one is about to take.
  const ports = await freePorts(2 * peers.length);
  return new Map(await Promise.all(peers.map(async (peer, i) => (
    [peer, await started(peer, around, variant, ports.slice(2 * i)).catch((error) => ({ failed: error.message }))]))));
}

export const end = (proxies) => Promise.all([...proxies.values()].map(({ running }) => running && finish(running)));

/**
 * A list in the order of a load and round: shuffled, the same way in each run, and then turned, so that in as many rounds as
 * there are peers each of them is the first one once.
 */
function inOrder(list, load, round) {
  const block = Math.floor(round / list.length);
  const key = ({ name }) => createHash('sha256').update(`${load} ${block} ${name}`).digest('hex');
  const shuffled = list.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
  return shuffled.map((_, i) => shuffled[(i + round) % list.length]);
}

/** A figure that is void is taken again: a machine has its moments, and a proxy that fails does so each time. */
const ATTEMPTS = 3;

async function measured(load, around, proxy, effort, peer) {
  if (proxy.cannot || proxy.failed) return proxy;
  let failed;
  for (let i = 0; i < ATTEMPTS; i += 1) {
    try {
      return await load.measure(around, proxy, effort, peer);
    } catch (error) {
      failed = error.message;
    }
  }
  return { failed };
}

/**
 * Runs loads against peers. `tell(round, load, peer, outcome)` hears of each outcome, which is the figures by name, or
 * `{ cannot }`, or `{ failed }`.
 */
export async function rounds(count, loads, peers, around, effort, tell) {
  const variants = [...new Map(loads.map(({ variant }) => [variant.name, variant])).values()];
  for (let round = 0; round < count; round += 1) {
    for (const variant of variants) {
      const proxies = await all(peers, around, variant);
      for (const load of loads.filter((one) => one.variant.name === variant.name)) {
        for (const peer of inOrder(peers, load.name, round)) {
          const proxy = proxies.get(peer);
          tell(round, load, peer, await measured(load, around, proxy, effort, peer));
        }
      }
      await end(proxies);
    }
  }
}
