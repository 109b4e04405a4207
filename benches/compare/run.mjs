// bearerd beside what anyone would pick instead, all of them at the same job on the same machine. README.md says what is
// measured, what has to be installed, and how the result is read.
//
//     node run.mjs [--quick] [--rounds N] [--only NAME,…]
//     node run.mjs --ab OLD NEW [--rounds N] [--only LOAD,…]     two builds of bearerd, nothing else
import { parseArgs } from 'node:util';
import { abTable } from './ab.mjs';
import { digits } from './figures.mjs';
import { LOADS } from './loads.mjs';
import { OTHER_CORE, moveTo } from './machine.mjs';
import { build } from './peers/bearerd.mjs';
import { nginx } from './peers/nginx.mjs';
import { rounds } from './stage.mjs';
import { world } from './world.mjs';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { ab: { type: 'boolean' }, quick: { type: 'boolean' }, rounds: { type: 'string' }, only: { type: 'string' } },
});
const only = flags.only?.split(',');

const began = Date.now();
const progress = (text) => {
  const seconds = Math.round((Date.now() - began) / 1000);
  console.error(`${String(Math.floor(seconds / 60)).padStart(3)}:${String(seconds % 60).padStart(2, '0')}  ${text}`);
};

const briefly = ({ cpu, rate, busy, cannot, failed }) => {
  if (cannot ?? failed) return cannot ?? `VOID: ${failed}`;
  return `${digits(cpu / 1e3)} µs, ${digits(rate)} a second, ${Math.round(busy * 100)} % of its core`;
};

async function compareBuilds() {
  const [old, fresh] = positionals.map((path, i) => build(['old', 'new'][i], path));
  if (fresh === undefined) throw new Error('--ab takes two binaries: --ab OLD NEW');
  for (const peer of [old, fresh]) peer.found = await peer.find();
  const lost = [old, fresh].find(({ found }) => found.missing);
  if (lost) throw new Error(lost.found.missing);
  const front = await nginx.find();
  if (front.missing) throw new Error(`the upstream is nginx: ${front.missing}`);
  const loads = LOADS.filter(({ name }) => (only ?? ['cpu-1', 'cpu-64']).includes(name));
  const around = await world(front.program);
  const results = [];
  const count = Number(flags.rounds ?? (flags.quick ? 2 : 8));
  await rounds(count, loads, [old, fresh], around, { seconds: flags.quick ? 1 : 2 }, (round, load, peer, outcome) => {
    progress(`round ${round + 1}/${count}  ${load.name.padEnd(12)} ${peer.name.padEnd(4)} ${briefly(outcome)}`);
    let row = results.find((one) => one.round === round && one.load === load.name);
    if (!row) results.push(row = { round, load: load.name, outcomes: new Map() });
    row.outcomes.set(peer.name, outcome);
  });
  console.log(abTable(loads, [old, fresh], results));
}

moveTo(OTHER_CORE);
try {
  await compareBuilds();
  process.exit(0);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
