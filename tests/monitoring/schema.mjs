// The dashboard against Grafana's own schema, which comes as TypeScript types: the compiler names every field that Grafana does
// not know or lacks, down to the options of each panel. `npm ci` first; README.md says more.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const dashboard = JSON.parse(readFileSync(at('../../deploy/grafana/bearerd.json'), 'utf8'));
// What an export adds for the import; the schema is of what the import makes of it.
const { __inputs, __elements, __requires, panels, ...frame } = dashboard;

const TYPES = {
  row: 'RowPanel',
  stat: 'Drawn<Stat, {}>',
  timeseries: 'Drawn<TimeSeries, GraphFieldConfig>',
  'state-timeline': 'Drawn<Timeline, TimelineField>',
};
const of = (panel, name) => `@grafana/schema/dist/esm/raw/composable/${panel}/panelcfg/x/${name}PanelCfg_types.gen`;

const source = `
import type { Dashboard, FieldConfig, FieldConfigSource, GraphFieldConfig, Panel, RowPanel } from '@grafana/schema';
import type { Options as Stat } from '${of('stat', 'Stat')}';
import type { FieldConfig as TimelineField, Options as Timeline } from '${of('statetimeline', 'StateTimeline')}';
import type { Options as TimeSeries } from '${of('timeseries', 'TimeSeries')}';
// JSON has the values of enums, and not their names.
type Plain<T> = T extends string ? \`\${T}\` : T extends number ? number : T extends (infer E)[] ? Plain<E>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
// Panel itself takes any options, and any field of a kind's own.
type Drawn<Options, Custom> = Omit<Panel, 'options' | 'fieldConfig'> & {
  options: Options;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & { defaults: Omit<FieldConfig, 'custom'> & { custom?: Custom } };
};
export const frame: Plain<Omit<Dashboard, 'panels'>> = ${JSON.stringify(frame, null, 1)};
${panels.map((panel, i) => `export const panel${i}: Plain<${TYPES[panel.type]}> = ${JSON.stringify(panel, null, 1)};`).join('\n')}
`;

const unknown = panels.filter(({ type }) => !(type in TYPES)).map(({ type }) => type);
if (unknown.length > 0) {
  console.error(`no types for panels of the kind ${unknown.join(', ')}: add them to TYPES`);
  process.exit(1);
}
const file = at('dashboard.ts');
try {
  writeFileSync(file, source);
  const flags = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext'];
  const { status, stdout } = spawnSync(process.execPath, [at('node_modules/typescript/bin/tsc'), ...flags, file], { encoding: 'utf8' });
  process.stdout.write(stdout);
  console.log(status === 0 ? `${panels.length} panels are as Grafana's schema has them` : 'the dashboard is not as Grafana\'s schema has it');
  process.exitCode = status;
} finally {
  rmSync(file, { force: true });
}
