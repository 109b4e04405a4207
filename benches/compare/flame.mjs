// What a request's CPU time is spent on, the kernel's part included: a flame graph over 64 connections, with each kind of
// upstream. docs/performance.md shows both.
//
//     node benches/compare/flame.mjs BINARY
//
// BINARY is a release with its symbols, which README.md says how to build. Says what share of the time is whose.
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { folder } from '../../tests/oidc-provider/rig.mjs';
import { OTHER_CORE, moveTo, on } from './machine.mjs';
import { build } from './peers/bearerd.mjs';
import { all, end } from './stage.mjs';
import { begin, run, world } from './world.mjs';

const GRAPHS = [
  ['performance-http1', 'A request over TLS 1.3 and HTTP/1.1', {}],
  ['performance-http2', 'A request over TLS 1.3 and HTTP/2', { upstreamHttp2: true }],
];

/** Seconds before the first sample, in which pools are filled, and of samples. */
const [WARM_UP, SECONDS] = [1, 8];

/** Samples a second: none of the round numbers in which something else may beat. */
const RATE = 997;

/** Bytes of stack that are kept with each sample, from which its callers are found: a request takes some 20 KiB. */
const STACK = 49_152;

/** The largest picture that is worth a commit has no frame below this percentage. */
const LEAST = '0.25';

/** What stacks of a worker begin with, and says nothing. */
const FRAME = /^(worker-\d+|start_thread|__clone3|\[unknown\])$|(spawn_unchecked|call_once|thread_start|__rust_begin_short_backtrace|raw::poll)$/;

/** Programs that others of these do without, and what gives them. */
const TOOLS = [
  ['perf', 'apt-get install linux-perf'],
  ['inferno-collapse-perf', 'cargo install inferno'],
  ['inferno-flamegraph', 'cargo install inferno'],
  ['wrk', 'apt-get install wrk'],
];

/** What is told of: the first frame that matches says whose a stack is. */
const SHARES = [
  ['system calls', /^entry_SYSCALL/],
  ['forward::Forward::handle', /^forward::Forward::handle$/],
];

/** A function without its type parameters, and what is implemented for a type without the trait's. */
function short(name) {
  let [shorter, before] = [name.replace(/(::)?\{(closure#\d+|shim:[^}]*)\}|\.(part|isra|constprop)\.\d+/g, '').replace(/ -> /g, ' ')];
  while (before !== shorter) {
    before = shorter;
    // `<T as Trait<X>>::f` from the inside out: an innermost `<…>` is a type, if it begins the path, or else parameters.
    shorter = shorter.replace(/(^|[^\w>:])<([^<>]*)>(?=::)|(::)?<[^<>]*>/g, (_, lead, type) => (
      type === undefined ? '' : `${lead}${type.split(/ as | \+ /)[0].replace(/^dyn /, '')}`));
  }
  return shorter.replace(/^.*?(\w+::\w+::\w+)$/, '$1').slice(0, 60);
}

/** Stacks in lines of `frame;frame;… samples`, from the loop of the worker on. */
function readable(collapsed) {
  if (collapsed.trim() === '') throw new Error('perf took no samples: sysctl kernel.perf_event_paranoid=-1');
  const stacks = new Map();
  for (const line of collapsed.trim().split('\n')) {
    const [, frames, samples] = /^(.*) (\d+)$/.exec(line);
    const all = frames.split(';').map(short);
    // A wait for events has no task.
    const inside = all.slice(all.findIndex((frame) => frame.endsWith('Context::run_task')) + 1);
    const first = inside.findIndex((frame) => !FRAME.test(frame));
    const stack = first < 0 ? 'other' : inside.slice(first).join(';');
    stacks.set(stack, (stacks.get(stack) ?? 0) + Number(samples));
  }
  return stacks;
}

/** The first of the shares that a stack counts for, and all else, in percent. */
function shares(stacks) {
  const sums = new Map([...SHARES.map(([name]) => [name, 0]), ['all else', 0]]);
  for (const [stack, samples] of stacks) {
    const frames = stack.split(';');
    const [name] = SHARES.find(([, pattern]) => frames.some((frame) => pattern.test(frame))) ?? ['all else'];
    sums.set(name, sums.get(name) + samples);
  }
  const all = [...sums.values()].reduce((sum, one) => sum + one);
  return [...sums].map(([name, samples]) => `${name} ${(100 * samples / all).toFixed(1)} %`).join(', ');
}

async function graph(stage, peer, [name, title, more]) {
  const proxies = await all([peer], stage, { name, life: 3_600, ...more });
  const { port, pid, failed } = proxies.get(peer);
  if (failed) throw new Error(failed);
  const seconds = WARM_UP + SECONDS + 2;
  const load = begin(on(OTHER_CORE, 'wrk', '-t1', '-c64', `-d${seconds}s`, `http://127.0.0.1:${port}/`));
  await sleep(WARM_UP * 1_000);
  const data = join(folder, 'perf.data');
  const options = { stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 30 };
  execFileSync('perf', ['record', '-q', '-e', 'cpu-clock', '-F', `${RATE}`, '--call-graph', `dwarf,${STACK}`, '-m', '2048',
    '-p', `${pid}`, '-o', data, '--', 'sleep', `${SECONDS}`], options);
  const how = await load.ended;
  if (how !== 0 || /Non-2xx|Socket errors/.test(load.said())) throw new Error(`wrk ended (${how}): ${load.said()}`);
  await end(proxies);
  const script = execFileSync('perf', ['script', '--no-inline', '-i', data], options);
  const collapsed = execFileSync('inferno-collapse-perf', ['-q'], { ...options, input: script, stdio: 'pipe' }).toString();
  const stacks = readable(collapsed);
  console.log(`${title}: ${shares(stacks)}`);
  const picture = execFileSync('inferno-flamegraph', ['-q', '--hash', '--minwidth', LEAST, '--width', '1400', '--countname', 'ns',
    '--title', title, '--subtitle', '64 connections; the width is CPU time, and a frame was called by the one below it'], {
    ...options, input: [...stacks].map(([stack, samples]) => `${stack} ${samples}`).join('\n'), stdio: 'pipe',
  });
  const path = fileURLToPath(new URL(`../../docs/${name}.svg`, import.meta.url));
  writeFileSync(path, picture);
  console.log(path);
}

async function graphs(binary) {
  if (!existsSync(binary ?? '')) throw new Error(`${binary ?? 'BINARY'}: there is no such file`);
  process.env.PATH += ':/usr/sbin';
  for (const [tool, cure] of TOOLS) {
    const found = await run(tool, ['--version']).catch((error) => error);
    if (found.code === 'ENOENT') throw new Error(`${tool} is missing: ${cure}`);
  }
  const peer = build('bearerd', () => ({ program: binary }));
  peer.found = await peer.find();
  moveTo(OTHER_CORE);
  // No program of ours puts the load on.
  const stage = await world(undefined, 2 ** 20);
  for (const one of GRAPHS) await graph(stage, peer, one);
}

try {
  await graphs(process.argv[2]);
  process.exit(0);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
