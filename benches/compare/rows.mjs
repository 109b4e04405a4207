// What the table has a row for: which figure of which load, what it is called, and how it is written. And what bearerd is to
// reach of it.
// A ratio of figures that are about nothing says nothing: `hasRatio`.
import { IDLE } from './loads.mjs';

const MICRO = 1e-3;
const MIB = 2 ** -20;

const cpuAt = (count) => ({
  load: `cpu-${count}`, figure: 'cpu', scale: MICRO, title: `CPU per request, ${count} connection${count > 1 ? 's' : ''}`, unit: 'µs',
});
const cpuWith = (load, title) => ({ load, figure: 'cpu', scale: MICRO, title: `CPU per request, ${title}`, unit: 'µs' });
const latency = (share) => ['p50', 'p99', 'p999'].map((figure) => ({
  load: `rate-${share}`, figure, scale: 1, unit: 'µs',
  title: `${figure === 'p999' ? 'p99.9' : figure} at ${share} % of nginx's most`,
}));

/** `more` is better where it says so; everywhere else it is less. */
export const ROWS = [
  ...[1, 16, 64, 256].map(cpuAt),
  cpuWith('upstream-h2', '64 connections, HTTP/2 upstream'),
  cpuWith('app-h2', '64 streams of HTTP/2 from the app'),
  cpuWith('log', '64 connections, access log on'),
  cpuWith('renewals', '64 connections, a new token every second or two'),
  ...[1, 100, 10_000].map((count) => (
    cpuWith(`routes-${count}`, `64 connections, ${count.toLocaleString('en-US')} route${count > 1 ? 's' : ''}`))),
  { load: 'cpu-64', figure: 'rate', scale: 1, title: 'Requests a second, 64 connections', unit: '1/s', isMoreBetter: true },
  { load: 'cpu-256', figure: 'rate', scale: 1, title: 'Requests a second, 256 connections', unit: '1/s', isMoreBetter: true },
  ...latency(50),
  ...latency(75),
  { load: 'idle', figure: 'rest', scale: MIB, title: 'Resident at rest', unit: 'MiB' },
  { load: 'cpu-64', figure: 'resident', scale: MIB, title: 'Resident under load, 64 connections', unit: 'MiB' },
  { load: 'cpu-256', figure: 'resident', scale: MIB, title: 'Resident under load, 256 connections', unit: 'MiB' },
  { load: 'routes-10000', figure: 'resident', scale: MIB, title: 'Resident under load, 10,000 routes', unit: 'MiB' },
  { load: 'idle', figure: 'idle', scale: MIB, title: `Resident with ${IDLE.toLocaleString('en-US')} idle connections`, unit: 'MiB' },
  { load: 'idle', figure: 'each', scale: 2 ** -10, title: 'The same for each connection', unit: 'KiB' },
  { load: 'down', figure: 'cpu', scale: 1e3, title: 'CPU per GB downloaded', unit: 'ms' },
  { load: 'up', figure: 'cpu', scale: 1e3, title: 'CPU per GB uploaded', unit: 'ms' },
  { load: 'down', figure: 'grown', scale: MIB, title: 'Resident grows while 1 GiB goes down', unit: 'MiB', hasRatio: false },
  { load: 'up', figure: 'grown', scale: MIB, title: 'Resident grows while 1 GiB goes up', unit: 'MiB', hasRatio: false },
  { load: 'start', figure: 'first', scale: 1, title: 'Start to the first authenticated answer', unit: 'ms' },
];
