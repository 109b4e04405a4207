// What the table has a row for: which figure of which load, what it is called, and how it is written. And what bearerd is to
// reach of it.
const MICRO = 1e-3;
const MIB = 2 ** -20;

const cpuWith = (load, title) => (
  { load, figure: 'cpu', scale: MICRO, title: `CPU per request, ${title}`, unit: 'µs' });
const cpuAt = (count) => cpuWith(`cpu-${count}`, `${count} connection${count > 1 ? 's' : ''}`);
const rate = (count) => (
  { load: `cpu-${count}`, figure: 'rate', scale: 1, title: `Requests a second, ${count} connections`, unit: '1/s' });
/** A ratio of figures that are about nothing says nothing: `hasRatio`. */
const memory = (load, figure, title, more = {}) => ({ load, figure, scale: MIB, title, unit: 'MiB', ...more });
const times = (number) => number.toLocaleString('en-US');
const latency = (share) => Object.entries({ p50: 'p50', p99: 'p99', p999: 'p99.9', lateP99: 'the load sent late, p99,' })
  .map(([figure, what]) => ({
    load: `rate-${share}`, figure, scale: 1, unit: 'µs', title: `${what} at ${share} % of the top rate`,
    hasRatio: figure !== 'lateP99',
  }));

export const ROWS = [
  ...[1, 16, 64, 256].map(cpuAt),
  cpuWith('upstream-h2', '64 connections, HTTP/2 upstream'),
  cpuWith('app-h2', '64 streams of HTTP/2 from the app'),
  cpuWith('log', '64 connections, access log on'),
  cpuWith('renewals', '64 connections, a new token every second or two'),
  ...[1, 100, 10_000].map((count) => (
    cpuWith(`routes-${count}`, `64 connections, ${times(count)} route${count > 1 ? 's' : ''}`))),
  ...[50, 75].map((share) => cpuWith(`rate-${share}`, `64 connections, ${share} % of the top rate`)),
  rate(64),
  rate(256),
  ...latency(50),
  ...latency(75),
  memory('rest', 'rest', 'Resident at rest'),
  memory('cpu-64', 'resident', 'Resident under load, 64 connections'),
  memory('cpu-256', 'resident', 'Resident under load, 256 connections'),
  memory('routes-10000', 'resident', 'Resident under load, 10,000 routes'),
  memory('idle', 'idle', 'Resident with many idle connections'),
  { load: 'idle', figure: 'each', scale: 2 ** -10, title: 'Each of the idle connections', unit: 'KiB' },
  { load: 'down', figure: 'cpu', scale: 1e3, title: 'CPU per GB downloaded', unit: 'ms' },
  { load: 'up', figure: 'cpu', scale: 1e3, title: 'CPU per GB uploaded', unit: 'ms' },
  memory('down', 'grown', 'Resident grows while a large body goes down', { hasRatio: false }),
  memory('up', 'grown', 'Resident grows while a large body goes up', { hasRatio: false }),
  { load: 'start', figure: 'first', scale: 1, title: 'Start to the first authenticated answer', unit: 'ms' },
];
