// bearerd beside what anyone would pick instead, all of them at the same job on the same machine. README.md says what is
// measured, what has to be installed, and how the result is read.
//
//     node run.mjs [--quick] [--rounds N] [--only NAME,…]         NAME is a load's or a proxy's
//     node run.mjs --ab OLD NEW [--rounds N] [--only LOAD,…]      two builds of bearerd, nothing else
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { abTable } from './ab.mjs';
import { chart } from './chart.mjs';
import { crate, identity } from './crates.mjs';
import { digits, median } from './figures.mjs';
import { IDLE, LOADS, mostOf } from './loads.mjs';
import { OTHER_CORE, machine, moveTo } from './machine.mjs';
import { bearerd, build } from './peers/bearerd.mjs';
import { envoy } from './peers/envoy.mjs';
import { floor } from './peers/floor.mjs';
import { haproxy } from './peers/haproxy.mjs';
import { nginx } from './peers/nginx.mjs';
import { pingora } from './peers/pingora.mjs';
import { Results } from './results.mjs';
import { all, end, rounds } from './stage.mjs';
import { machineLine, medians, page } from './table.mjs';
import { verdict } from './verdict.mjs';
import { run, world } from './world.mjs';

const PEERS = [bearerd, nginx, haproxy, pingora, envoy, floor];

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { ab: { type: 'boolean' }, quick: { type: 'boolean' }, rounds: { type: 'string' }, only: { type: 'string' } },
});
const only = flags.only?.toLowerCase().split(',') ?? [];
/** With fewer rounds their median and range say little. */
const WHOLE = 5;
const usual = flags.ab ? 8 : WHOLE;
const count = Number(flags.rounds ?? (flags.quick ? usual >> 2 : usual));

/** A glance shows that all of it works: figures of a second, or of less, say no more. */
const effort = flags.quick ? { seconds: 1, connections: 1_000, starts: 1, large: 2 ** 27 }
  : { seconds: 2, connections: IDLE, starts: 5, large: 2 ** 30 };

const began = Date.now();
const progress = (text) => {
  const seconds = Math.round((Date.now() - began) / 1000);
  console.error(`${String(Math.floor(seconds / 60)).padStart(3)}:${String(seconds % 60).padStart(2, '0')}  ${text}`);
};

/** What one load did to one proxy, for whoever looks on. */
function briefly({ cannot, failed, ...figures }) {
  if (cannot) return cannot;
  if (failed) return `VOID: ${failed}`;
  const shown = {
    cpu: (value) => (value > 100 ? `${digits(value / 1e3)} µs` : `${digits(value * 1e3)} ms/GB`),
    busy: (value) => `${Math.round(value * 100)} % busy`,
    others: (value) => `${digits(value * 100)} % others`,
    rate: (value) => digits(value),
    p50: (value) => `p50 ${value} µs`,
    p99: (value) => `p99 ${value} µs`,
    p999: (value) => `p99.9 ${value} µs`,
    lateP99: (value) => `sent late, p99 ${value} µs`,
    isSaturated: (value) => (value ? 'SATURATED' : 'kept up'),
    rest: (value) => `${digits(value / 2 ** 20)} MiB at rest`,
    each: (value) => `${digits(value / 2 ** 10)} KiB each`,
    resident: (value) => `${digits(value / 2 ** 20)} MiB`,
    grown: (value) => `grown by ${digits(value / 2 ** 20)} MiB`,
    first: (value) => `${digits(value)} ms`,
    tokens: (value) => `${value} tokens`,
  };
  const names = Object.keys(shown).filter((name) => figures[name] !== undefined);
  return names.map((name) => shown[name](figures[name])).join(', ');
}

const teller = (count, tell) => (round, load, peer, outcome) => {
  progress(`round ${round + 1}/${count}  ${load.name.padEnd(12)} ${peer.name.padEnd(8)} ${briefly(outcome)}`);
  tell(round, load, peer, outcome);
};

/** Programs without which there is no run, and what gives them. */
const TOOLS = [
  ['nginx', ['-v'], 'apt-get install nginx-light'],
  ['wrk', ['-v'], 'apt-get install wrk'],
  ['h2load', ['--version'], 'apt-get install nghttp2-client'],
  ['curl', ['--version'], 'apt-get install curl'],
  ['openssl', ['version'], 'apt-get install openssl'],
  ['taskset', ['--version'], 'apt-get install util-linux'],
  ['cargo', ['--version'], 'https://rustup.rs'],
];

async function tools() {
  const found = [];
  for (const [name, args, cure] of TOOLS) {
    // wrk ends with 1 after it has said its version.
    const said = await run(name, args).catch((error) => (error.code === 'ENOENT' ? undefined : error));
    if (said === undefined) throw new Error(`${name} is missing: ${cure}. Without it there is no run`);
    const version = /\d+\.\d[\w.]*/.exec(said.stdout + said.stderr)?.[0];
    if (['nginx', 'wrk', 'h2load'].includes(name)) found.push(`${name} ${version}`);
  }
  return found;
}

async function around() {
  const { program, missing } = await crate('load');
  if (missing) throw new Error(missing);
  // Behind what was built, for which one core would be little.
  moveTo(OTHER_CORE);
  return world(program, effort.large);
}

function allKnown(list) {
  const known = list.map(({ name }) => name.toLowerCase());
  const unknown = only.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`--only ${unknown}: there are ${known.join(', ')}`);
}

async function compareBuilds() {
  const binary = (path) => () => (existsSync(path) ? { program: path } : { missing: `${path}: there is no such file` });
  const builds = positionals.map((path, i) => build(['old', 'new'][i], binary(path)));
  if (builds.length !== 2) throw new Error('--ab takes two binaries: --ab OLD NEW');
  for (const peer of builds) {
    peer.found = await peer.find();
    if (peer.found.missing) throw new Error(peer.found.missing);
  }
  const names = only.length > 0 ? only : ['cpu-1', 'cpu-64'];
  allKnown(LOADS);
  const loads = LOADS.filter(({ name }) => names.includes(name));
  await tools();
  const stage = await around();
  await findMost(stage, loads);
  const outcomes = [];
  await rounds(count, loads, builds, stage, effort, teller(count, (round, load, peer, outcome) => {
    outcomes.push({ round, load: load.name, build: peer.name, ...outcome });
  }));
  console.log(abTable(loads, outcomes));
  return outcomes.some(({ failed, isSaturated }) => failed || isSaturated) ? 1 : 0;
}

/** What fixed rates are shares of. */
async function findMost(stage, loads) {
  if (!loads.some(({ name }) => name.startsWith('rate-'))) return;
  nginx.found ??= await nginx.find();
  if (nginx.found.missing) throw new Error(`fixed rates are shares of nginx's: ${nginx.found.missing}`);
  const proxies = await all([nginx], stage, loads.find(({ name }) => name.startsWith('rate-')).variant);
  const proxy = proxies.get(nginx);
  if (proxy.failed) throw new Error(proxy.failed);
  stage.most = await mostOf(stage, proxy, effort);
  await end(proxies);
  progress(`fixed rates are shares of ${digits(stage.most)} requests a second`);
}

/** How long this provider takes to grant a token to a client that does nothing else, in milliseconds. */
async function providerTime({ tokens }) {
  const times = [];
  for (let i = 0; i < 20; i += 1) {
    const options = ['-q', '-s', '-o', '/dev/null', '-w', '%{time_total}', '-d', 'x=y'];
    times.push(1e3 * Number((await run('curl', [...options, tokens.url(60, 'bare')])).stdout));
  }
  return median(times);
}

async function compareAll() {
  allKnown([...LOADS, ...PEERS]);
  const found = await tools();
  const [loadNames, peerNames] = [LOADS, PEERS].map((list) => (
    list.map(({ name }) => name).filter((name) => only.includes(name.toLowerCase()))));
  const peers = PEERS.filter(({ name }) => peerNames.length === 0 || peerNames.includes(name));
  // Of what is measured at several sizes a glance takes one.
  const isLeftOut = ({ name }) => flags.quick && ['cpu-16', 'cpu-256', 'rate-75', 'routes-100'].includes(name);
  const loads = LOADS.filter((load) => (loadNames.length === 0 ? !isLeftOut(load) : loadNames.includes(load.name)));
  const missing = [];
  for (const peer of peers) {
    peer.found = await peer.find();
    if (!peer.found.missing) continue;
    missing.push({ name: peer.name, missing: peer.found.missing });
    console.error(`${peer.name} is left out: ${peer.found.missing}`);
  }
  const present = peers.filter((peer) => !peer.found.missing);
  if (present.length === 0) throw new Error('nobody is there to be measured');
  const versions = Object.fromEntries(present.map((peer) => [peer.name, peer.found.version]));
  progress(Object.entries(versions).map((pair) => pair.join(' ')).join(', '));

  const stage = await around();
  const providerMs = await providerTime(stage);
  await findMost(stage, loads);
  const results = new Results();
  await rounds(count, loads, present, stage, effort, teller(count, (round, load, peer, outcome) => {
    results.add(round, load.name, peer.name, outcome);
  }));

  const binary = bearerd.found?.program;
  const whole = {
    machine: machine(),
    versions,
    binary: binary && await identity(binary),
    tools: found,
    missing,
    rounds: count,
    effort,
    most: stage.most,
    providerMs,
    judgement: binary ? verdict(results, { binary, providerMs, rounds: count }) : [],
    results,
  };
  const isVoid = results.notes().some(({ failed }) => failed);
  // A part of the whole, or a glance at it, is not what is kept.
  const isWhole = !flags.quick && only.length === 0 && count >= WHOLE && missing.length === 0;
  const folder = isWhole ? fileURLToPath(new URL('.', import.meta.url)) : mkdtempSync(join(tmpdir(), 'bearerd-compare-'));
  const write = (name, text) => writeFileSync(join(folder, name), text);
  write('results.md', page(whole));
  write('results.json', `${JSON.stringify({ ...whole, results: results.found })}\n`);
  write('results.svg', chart(whole));
  console.log(`${machineLine(whole.machine)}\n\n${medians(results, versions)}\n`);
  for (const { what, goal, found: figure, is } of whole.judgement) {
    console.log(`${is.padEnd(18)} ${what}: ${figure} (${goal})`);
  }
  console.log(`\n${folder}: results.md, results.json, results.svg`);
  return isVoid ? 1 : 0;
}

// Where Debian has nginx and HAProxy, and a user's PATH has not.
process.env.PATH += ':/usr/sbin';
try {
  if (!Number.isInteger(count) || count < 1) throw new Error(`--rounds ${flags.rounds}: it is a whole number from 1`);
  process.exit(flags.ab ? await compareBuilds() : await compareAll());
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
