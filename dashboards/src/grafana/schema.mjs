// Checks dashboards against Grafana's own types and units: schema.mjs DASHBOARD...
//
// @grafana/schema has the types of a dashboard and of the options of each kind of panel, and
// @grafana/data the units. Neither needs a Grafana server.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';
import Ajv from 'ajv';
import { createGenerator } from 'ts-json-schema-generator';

const require = createRequire(import.meta.url);
const types = join(dirname(require.resolve('@grafana/schema/package.json')), 'dist/types/raw');

// What Grafana's Prometheus data source adds to an annotation is in no type.
const ANNOTATION_OF_PROMETHEUS = ['expr'];

let problems = 0;
const schemas = new Map();
const units = knownUnits();
for (const file of process.argv.slice(2)) {
  const board = JSON.parse(readFileSync(file, 'utf8'));
  for (const annotation of board.annotations.list) {
    for (const key of ANNOTATION_OF_PROMETHEUS) delete annotation[key];
  }
  check(`${file}`, board, 'dashboard/x', 'Dashboard');
  for (const panel of board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])])) {
    if (panel.type !== 'row') checkPanel(`${file}: ${panel.title}`, panel);
  }
}
process.exit(problems ? 1 : 0);

/** Options, field options and units of a panel. */
function checkPanel(where, panel) {
  const kind = `composable/${panel.type}/panelcfg/x`;
  check(`${where}: options`, panel.options, kind, 'Options');
  const { defaults, overrides } = panel.fieldConfig;
  // A stat has no field options of its own.
  if (defaults.custom) check(`${where}: custom`, defaults.custom, kind, 'FieldConfig');
  const overridden = overrides.flatMap((override) => override.properties).filter(({ id }) => id === 'unit');
  for (const unit of [defaults.unit, ...overridden.map(({ value }) => value)]) {
    if (unit && !units.has(unit) && !/^(prefix|suffix|count|time|si):/.test(unit)) {
      complain(`${where}: Grafana has no unit ${unit}`);
    }
  }
}

/** Complains of whatever the type does not allow. */
function check(where, value, folder, type) {
  const key = `${folder} ${type}`;
  if (!schemas.has(key)) schemas.set(key, compile(join(types, folder, 'types.gen.d.ts'), type));
  const valid = schemas.get(key);
  if (!valid(value)) {
    for (const { instancePath, message, params } of valid.errors) {
      complain(`${where}${instancePath}: ${message} ${JSON.stringify(params)}`);
    }
  }
}

/** A check made of a type. */
function compile(path, type) {
  const schema = createGenerator({ path, type, skipTypeCheck: true, additionalProperties: false }).createSchema(type);
  return new Ajv({ allErrors: true, strict: false, validateFormats: false }).compile(schema);
}

/** The ids of all units. Some are made for the language of a browser. */
function knownUnits() {
  globalThis.navigator ??= { languages: ['en'] };
  const { getValueFormats } = require('@grafana/data');
  return new Set(getValueFormats().flatMap(({ submenu }) => submenu.map(({ value }) => value)));
}

function complain(words) {
  console.error(words);
  problems += 1;
}
