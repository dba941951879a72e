// Draws one dashboard with Grafana's own panels, from a Prometheus that is asked as Grafana asks it.
//
// Grafana's server, its plugins and its menus are not here, so this is no Grafana: annotations and
// links are not drawn. What is drawn, numbers, units, colors, legends and tables, is drawn by
// @grafana/ui and @grafana/data. The page is told what to draw by `window.asked`.
import { createElement, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import {
  FieldType,
  ThemeContext,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createTheme,
  dateTime,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  standardFieldConfigEditorRegistry,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PortalContainer, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { firstValueFrom } from 'rxjs';

const { board, prometheus, variables, seconds, dark, width } = window.asked;
const theme = createTheme({ colors: { mode: dark ? 'dark' : 'light' } });
const step = Math.max(1, Math.round(seconds / 300));
const to = Math.floor(Date.now() / 1000);
const timeRange = {
  from: dateTime((to - seconds) * 1000),
  to: dateTime(to * 1000),
  raw: { from: 'now', to: 'now' },
};
// The measures of Grafana's grid.
const ROW = 38;
const GAP = 8;

registerOptions();
const laidOut = layOut(board.panels);
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <Page />
    <PortalContainer />
  </ThemeContext.Provider>
);

/** Title, what is chosen, and the panels; says in `window.drawn` how many are there. */
function Page() {
  const height = Math.max(...laidOut.map(({ y, h }) => (y + h) * ROW));
  const chosen = board.templating.list
    .filter(({ name, includeAll }) => includeAll || variables[name])
    .map(({ name, label, includeAll }) => `${label}: ${includeAll ? 'All' : variables[name]}`);
  const style = { background: theme.colors.background.canvas, color: theme.colors.text.primary, padding: 16, width };
  return (
    <div style={style}>
      <h3>{board.title}</h3>
      <p style={{ color: theme.colors.text.secondary }}>{chosen.join(', ')}</p>
      <div style={{ position: 'relative', height }}>
        {laidOut.map(({ panel, x, y, w, h }) => {
          const cell = (width - 32) / 24;
          const place = { position: 'absolute', left: x * cell, top: y * ROW };
          return (
            <div key={panel.id} style={place}>
              {panel.type === 'row' ? (
                <h5 style={{ padding: '8px 0' }}>⌄ {panel.title}</h5>
              ) : (
                <Panel panel={panel} width={w * cell - GAP} height={h * ROW - GAP} />
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}

/** A panel with its frame; what cannot be drawn says so, where the picture is looked at. */
function Panel({ panel, width, height }) {
  const [data, setData] = useState();
  useEffect(() => {
    load(panel).then(setData, (reason) => setData({ reason }));
  }, [panel]);
  useEffect(() => {
    if (data) window.drawn = (window.drawn ?? 0) + 1;
  }, [data]);
  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
      {(innerWidth, innerHeight) => {
        if (!data) return null;
        if (data.reason) return <p style={{ color: 'red' }}>{String(data.reason)}</p>;
        if (!data.some(({ length }) => length)) return <Nothing panel={panel} height={innerHeight} />;
        return createElement(KINDS[panel.type], { panel, data, width: innerWidth, height: innerHeight });
      }}
    </PanelChrome>
  );
}

/** What Grafana shows where there are no series. */
function Nothing({ panel, height }) {
  const style = { height, display: 'flex', alignItems: 'center', justifyContent: 'center' };
  return <div style={style}>{panel.fieldConfig.defaults.noValue}</div>;
}

const KINDS = {
  timeseries: ({ panel, data, width, height }) => (
    <TimeSeries
      frames={data}
      timeRange={timeRange}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
      options={panel.options}
    />
  ),
  stat: ({ panel, data, width, height }) => {
    const [value] = displayed(panel, data);
    const { colorMode, graphMode, justifyMode, textMode } = panel.options;
    return (
      <BigValue
        value={value.display}
        {...{ colorMode, graphMode, justifyMode, textMode, theme, width, height }}
      />
    );
  },
  bargauge: ({ panel, data, width, height }) => (
    <VizRepeater
      source={data}
      getValues={() => displayed(panel, data)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, width, height }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex)}
          orientation={panel.options.orientation}
          displayMode={panel.options.displayMode}
          valueDisplayMode={panel.options.valueMode}
          namePlacement={panel.options.namePlacement}
          showUnfilled={panel.options.showUnfilled}
          text={panel.options.text}
          {...{ alignmentFactors, theme, width, height }}
        />
      )}
      orientation={panel.options.orientation}
      itemSpacing={8}
      minVizHeight={panel.options.minVizHeight}
      maxVizHeight={panel.options.maxVizHeight}
      width={width}
      height={height}
    />
  ),
  table: ({ panel, data, width, height }) => (
    <TableNG
      data={data[panel.options.frameIndex]}
      cellHeight={panel.options.cellHeight}
      sortBy={panel.options.sortBy}
      fieldConfig={panel.fieldConfig}
      noValue={panel.fieldConfig.defaults.noValue}
      {...{ width, height, timeRange }}
    />
  ),
};

/** The numbers that a stat or a bar shows. */
function displayed(panel, data) {
  return getFieldDisplayValues({
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
    data,
    timeZone: 'utc',
  });
}

/** The data of a panel, as its component wants it. */
async function load(panel) {
  const asked = panel.targets.map(async (target) => frames(target, await ask(target), panel.targets.length));
  let data = (await Promise.all(asked)).flat();
  if (panel.transformations) {
    data = await firstValueFrom(transformDataFrame(panel.transformations, data));
  }
  data = applyFieldOverrides({
    data,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: standardFieldConfigEditorRegistry,
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
  // Tables read names from here alone.
  cacheFieldDisplayNames(data);
  return data;
}

/** What Prometheus gives for a target. */
async function ask(target) {
  const query = Object.entries(variables).reduce(
    (expr, [name, value]) => expr.replaceAll(`$${name}`, value),
    target.expr
  );
  const url = target.instant
    ? `query?query=${encodeURIComponent(query)}&time=${to}`
    : `query_range?query=${encodeURIComponent(query)}&start=${to - seconds}&end=${to}&step=${step}`;
  const answer = await (await fetch(`${prometheus}/api/v1/${url}`)).json();
  if (answer.status !== 'success') throw new Error(`${answer.error}: ${query}`);
  return answer.data.result;
}

/** The frames that Grafana's Prometheus data source makes of that. */
function frames(target, series, targets) {
  if (target.format === 'table') {
    const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))];
    const fields = labels.map((name) => ({
      name,
      type: FieldType.string,
      values: series.map(({ metric }) => metric[name] ?? ''),
      config: { filterable: true },
    }));
    fields.unshift({ name: 'Time', type: FieldType.time, values: series.map(({ value }) => value[0] * 1000) });
    const name = targets > 1 ? `Value #${target.refId}` : 'Value';
    fields.push({ name, type: FieldType.number, values: series.map(({ value }) => Number(value[1])) });
    return series.length ? [toDataFrame({ refId: target.refId, fields })] : [];
  }
  return series.map(({ metric, values, value }) => {
    const points = values ?? [value];
    const name = target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? '');
    return toDataFrame({
      refId: target.refId,
      fields: [
        {
          name: 'Time',
          type: FieldType.time,
          values: points.map(([time]) => time * 1000),
          config: { interval: step * 1000 },
        },
        {
          name: 'Value',
          type: FieldType.number,
          labels: metric,
          values: points.map(([, number]) => Number(number)),
          config: name ? { displayNameFromDS: name } : {},
        },
      ],
    });
  });
}

/** Where each panel lies when all rows are unfolded. */
function layOut(panels) {
  const placed = [];
  let further = 0;
  for (const panel of panels) {
    const folded = panel.panels ?? [];
    for (const one of [panel, ...folded]) {
      const { x, y, w, h } = one.gridPos;
      placed.push({ panel: one, x, y: y + further, w, h });
    }
    further += Math.max(0, ...folded.map(({ gridPos }) => gridPos.y + gridPos.h - panel.gridPos.y - 1));
  }
  return placed;
}

/** Grafana registers these in its application, which is not here; every option is taken as it is. */
function registerOptions() {
  const option = (id, path, isCustom) => ({
    id,
    path,
    name: id,
    isCustom,
    process: (value) => value,
    shouldApply: () => true,
  });
  const standard = ['unit', 'min', 'max', 'decimals', 'displayName', 'color', 'thresholds', 'mappings', 'noValue', 'links'];
  const all = board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  const custom = new Set(
    all.flatMap(({ fieldConfig }) => [
      ...Object.keys(fieldConfig?.defaults.custom ?? {}),
      ...(fieldConfig?.overrides ?? [])
        .flatMap(({ properties }) => properties.map(({ id }) => id))
        .filter((id) => id.startsWith('custom.'))
        .map((id) => id.slice('custom.'.length)),
    ])
  );
  standardFieldConfigEditorRegistry.setInit(() => [
    ...standard.map((id) => option(id, id, false)),
    ...[...custom].map((path) => option(`custom.${path}`, path, true)),
  ]);
  // Some are there by two names.
  const transformations = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
  standardTransformersRegistry.setInit(() =>
    [...transformations.values()].map((transformation) => ({
      id: transformation.id,
      name: transformation.name,
      transformation: async () => transformation,
    }))
  );
}
