// What the kernel knows: where a process runs, what its threads have used, how much of it is resident; and what this
// machine is. Nothing here asks a proxy about itself, so none can count in its own favour.
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

const read = (path) => readFileSync(path, 'utf8');

/** The core of the proxies, and the one of the load and of everything that the proxies talk to. */
export const PROXY_CORE = '0';
/** What runs on the same core as the proxies, if it has several threads: like 0-1 or 0,4. */
const SIBLINGS = read(`/sys/devices/system/cpu/cpu${PROXY_CORE}/topology/thread_siblings_list`).trim().split(',')
  .map((range) => range.split('-').map(Number));
const isSibling = (core) => SIBLINGS.some(([first, last = first]) => core >= first && core <= last);
const apart = cpus().findIndex((_, core) => !isSibling(core));
export const OTHER_CORE = apart < 0 ? '1' : `${apart}`;

/** What a command line begins with, so that it runs there. */
export const on = (core, ...command) => ['taskset', '-c', core, ...command];

/** Moves this process and its threads. */
export const moveTo = (core) => execFileSync('taskset', ['-acp', core, `${process.pid}`], { stdio: 'ignore' });

/** A process that goes away while it is read counts as one that is gone. */
function unlessGone(found, otherwise) {
  try {
    return found();
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(error.code)) return otherwise;
    throw error;
  }
}

/** A process and all that it has started. */
export function family(pid) {
  const tasks = unlessGone(() => readdirSync(`/proc/${pid}/task`), []);
  const children = tasks.flatMap((task) => (
    unlessGone(() => read(`/proc/${pid}/task/${task}/children`), '').split(' ').filter(Boolean)));
  return [pid, ...children.flatMap((child) => family(Number(child)))];
}

/** Nanoseconds on a processor, of each thread of a process and of all that it has started. */
function threads(pid) {
  const paths = family(pid).flatMap((one) => (
    unlessGone(() => readdirSync(`/proc/${one}/task`), []).map((task) => `/proc/${one}/task/${task}/schedstat`)));
  return new Map(paths.map((path) => [path, Number(unlessGone(() => read(path), '0').split(' ')[0])]));
}

/**
 * Starts to watch a process and all that it has started. Asked later, it gives the nanoseconds that they have been on a
 * processor since. A thread that has ended takes with it what it used since, but not what it had used before.
 */
export function spending(pid) {
  const before = threads(pid);
  return () => [...threads(pid)].reduce((sum, [path, now]) => sum + Math.max(0, now - (before.get(path) ?? 0)), 0);
}

/**
 * Starts to watch a core. Asked later, it gives the share of the time since in which that was busy, by whomever, or was not
 * given to this machine (steal); less so many nanoseconds that are accounted for.
 */
export function busy(core) {
  const idle = () => {
    const [, ...ticks] = new RegExp(`^cpu${core} .*`, 'm').exec(read('/proc/stat'))[0].split(' ').map(Number);
    // Idle, and waiting for a disk; a tick is 10 ms.
    return 10 * (ticks[3] + ticks[4]);
  };
  const [began, before] = [performance.now(), idle()];
  return (known = 0) => 1 - (idle() - before + known / 1e6) / (performance.now() - began);
}

/**
 * Resident bytes of a process and of all that it has started. What several of them share counts once: each one's own
 * pages, and the shared ones of the one that has most of them.
 */
export function resident(pid) {
  const each = family(pid).map((one) => unlessGone(() => {
    const rollup = read(`/proc/${one}/smaps_rollup`);
    const kilobytes = (key) => Number(new RegExp(`^${key}: +(\\d+) kB`, 'm').exec(rollup)?.[1] ?? 0);
    return {
      own: kilobytes('Private_Clean') + kilobytes('Private_Dirty'),
      shared: kilobytes('Shared_Clean') + kilobytes('Shared_Dirty'),
    };
  }, { own: 0, shared: 0 }));
  return 1024 * (each.reduce((sum, { own }) => sum + own, 0) + Math.max(...each.map(({ shared }) => shared)));
}

/**
 * Resident bytes now, and starts to watch how many they become. Asked later, `grown` gives how many more there were at the
 * most, which the kernel has kept for each process.
 */
export function peak(pid) {
  const now = resident(pid);
  const of = (one, key) => unlessGone(() => (
    1024 * Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(read(`/proc/${one}/status`))[1])), 0);
  const before = new Map(family(pid).map((one) => {
    // 5 sets the peak to what is resident.
    unlessGone(() => writeFileSync(`/proc/${one}/clear_refs`, '5'));
    return [one, of(one, 'VmHWM')];
  }));
  const grown = () => family(pid).reduce((sum, one) => sum + of(one, 'VmHWM') - (before.get(one) ?? 0), 0);
  return { now, grown };
}

/** How many files a process here may have open at the most. */
export const mostDescriptors = () => (
  Number(/^Max open files +\d+ +(\d+)/m.exec(read('/proc/self/limits'))?.[1] ?? Infinity));

/** The machine, for the table. */
export function machine() {
  return {
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    isShared: isSibling(Number(OTHER_CORE)),
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: `Linux ${release()}`,
    date: new Date().toISOString().slice(0, 10),
  };
}
