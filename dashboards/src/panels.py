"""How our panels look: one function for each kind, and what every dashboard begins with.

Expressions are PromQL with two short forms, so that a panel says only what it is about:
`metric{here, …}` is the metric of the chosen server, `metric{db, …}` of the chosen databases there.
"""

import re
from pathlib import Path

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.builders import stat as stat_panel
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

TAG = "matrix-postgres"
INSTANCE = "matrix-postgres-instance"
SYNAPSE = "matrix-postgres-synapse"
PEOPLE = "matrix-postgres-people"

DATASOURCE = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Where Prometheus adds no namespace, or an exporter watches one server, those two are empty.
HERE = 'job="$job", instance="$instance", namespace="$namespace", server="$server"'
DB = f'{HERE}, datname=~"$datname"'

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"

# The thresholds of the alerts, with their defaults; tiles take their colors from them.
LIMITS = {
    name: float(value)
    for name, value in re.findall(
        r'record: "threshold:([^"]+)", expr: "([^"]+)"',
        (Path(__file__).parents[2] / "alerts/thresholds.example.yml").read_text(),
    )
}
# Where this repository can be read, for the links to runbooks; `make alerts` puts in the address.
REPOSITORY = "https://git.example.org/matrix-postgres-exporter/blob/main"


def promql(short: str) -> str:
    """An expression without the short forms, on one line."""
    written_out = {"here": HERE, "db": DB}
    one_line = re.sub(r"\s+", " ", short.strip())
    return re.sub(r"\{(here|db)\b", lambda form: "{" + written_out[form[1]], one_line)


def limit_of(name: str) -> str:
    """The threshold that the alerts use on this server: a rule's, or its default."""
    return f"max(limit:{name} and on (namespace) pg_up{{here}}) or vector({LIMITS[name]:g})"


def begin(title: str, uid: str, about: str, of: str = "pg_up") -> dashboard.Dashboard:
    """A dashboard without panels, for one server, which is chosen by namespace, job, instance and name
    among those that have the metric `of`."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG, "postgresql"])
        .readonly()
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .refresh("1m")
        .time("now-6h", "now")
        .link(links_by_tag("Databases under Matrix", TAG))
        .link(links_by_tag("Synapse itself", "matrix", variables=False))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(choice("namespace", "Namespace", f"label_values({of}, namespace)"))
        .with_variable(choice("job", "Job", f'label_values({of}{{namespace="$namespace"}}, job)'))
        .with_variable(
            choice("instance", "Instance", f'label_values({of}{{namespace="$namespace", job="$job"}}, instance)')
        )
        .with_variable(
            choice(
                "server",
                "Server",
                f'label_values({of}{{namespace="$namespace", job="$job", instance="$instance"}}, server)',
            )
        )
        .with_variable(dashboard.ConstantVariable("repository").label("Repository").value(REPOSITORY))
        .annotation(firing())
        .annotation(mark("The server was restarted", "pg_postmaster_start_time_seconds", ORANGE))
        .annotation(mark("The server changed its role", "pg_replication_is_replica", RED))
    )


def links_by_tag(title: str, tag: str, variables: bool = True) -> dashboard.DashboardLink:
    """A menu of the dashboards with that tag, which keeps the time, and what was chosen here. Dashboards
    of others have variables of the same names that mean something else."""
    return (
        dashboard.DashboardLink(title)
        .type(d.DashboardLinkType.DASHBOARDS)
        .icon("external link")
        .tags([tag])
        .as_dropdown(True)
        .include_vars(variables)
        .keep_time(True)
    )


def choice(name: str, label: str, query: str, several: bool = False) -> dashboard.QueryVariable:
    """A variable whose values come from Prometheus."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": "values", "qryType": 1})
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        variable.all_value(".+").current(d.VariableOption(text="All", value="$__all"))
    return variable


# Alerts on this server, and those on its cluster, which have no instance.
ON_SERVER = 'ALERTS{alertstate="firing", job="$job", instance="$instance", namespace="$namespace", server=~"$server|"}'
FIRING = f"""{ON_SERVER}
  or ALERTS{{alertstate="firing", instance="", system_identifier!=""}}
     and on (namespace, system_identifier) pg_server_info{{here}}"""


# What of a server or a database an alert is about.
CONCERNS = ", ".join(
    f'"{label}"'
    for label in (
        "as_id", "consumer", "stream_name", "sequence_name", "lock_name", "action", "table_group", "slot_name",
        "relname", "usename", "collector", "warning",
    )  # fmt: skip
)


def firing() -> dashboard.AnnotationQuery:
    """Alerts on this server, in all graphs."""
    return (
        dashboard.AnnotationQuery()
        .name("Firing alerts")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(RED)
        .expr(ON_SERVER)
    )


def alerts():
    """What fires, each alert with a link to its runbook: the first thing on every dashboard."""
    return table(
        "Firing alerts",
        """Alerts on this server and its cluster that fire now. The name leads to the runbook: what it
        means, what to look at, what to do.""",
        {
            "severity": "Severity",
            "alertname": "Alert",
            "concerns": "Concerns",
            "datname": "Database",
            "cluster_name": "Cluster",
        },
        only=f"""group by (severity, alertname, concerns, datname, cluster_name) (
                   label_join({FIRING}, "concerns", " ", {CONCERNS}))""",
        go={"Alert": "${repository}/alerts/runbooks/${__value.raw}.md"},
        words={"Severity": {"critical": ("critical", RED), "warning": ("warning", ORANGE), "info": ("info", BLUE)}},
        first="Severity",
        none="no alert fires",
        height=5,
    )


def mark(name: str, metric: str, color: str) -> dashboard.AnnotationQuery:
    """A line in all graphs where the metric changed."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(promql(f"changes({metric}{{here}}[$__rate_interval]) > 0"))
    )


def stat(
    title: str,
    about: str,
    expr: str,
    unit: str = "short",
    *,
    steps=((None, GREEN),),
    says: dict | None = None,
    label: str = "",
    both: bool = False,
    decimals: int | None = None,
    **common_to_all,
):
    """One number. `steps` are the values from which a color holds; `says` maps values to words;
    `label` is shown instead of the value, or with `both` beside it. It is the value of this moment, or none: an old one would
    look well while the server is down."""
    panel = (
        _begin(stat_panel.Panel(), title, about, 4, 4, **common_to_all)
        .unit(unit)
        .thresholds(_steps(steps))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .color_mode(c.BigValueColorMode.VALUE)
        .graph_mode(c.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .wide_layout(True)
        .with_target(_target(expr, label, instant=True))
    )
    if label:
        panel.text_mode(c.BigValueTextMode.VALUE_AND_NAME if both else c.BigValueTextMode.NAME)
    if decimals is not None:
        panel.decimals(decimals)
    if says:
        panel.mappings(_words(says))
    return panel


def graph(
    title: str,
    about: str,
    *lines: tuple[str, str],
    unit: str = "short",
    stack: bool = False,
    limit: str | tuple[str, ...] | None = None,
    steps=None,
    many: bool = False,
    colors: dict[str, str] | None = None,
    soft_min: float | None = None,
    soft_max: float = 1,
    highest: float | None = None,
    **common_to_all,
):
    """Lines over time, each an expression and its legend. `stack` piles them up; `limit` are the
    legends of the lines, if any, that the others should stay below; `steps` are drawn dashed;
    `many` has a table of the lines, with their last values, instead of a list; `colors` are those of
    lines that mean the same everywhere."""
    legend = common.VizLegendOptions().show_legend(True)
    if many:
        legend.display_mode(c.LegendDisplayMode.TABLE).placement(c.LegendPlacement.RIGHT)
        legend.calcs(["lastNotNull"]).width(200)
    else:
        legend.display_mode(c.LegendDisplayMode.LIST).placement(c.LegendPlacement.BOTTOM)
    panel = (
        _begin(timeseries.Panel(), title, about, 12, 8, **common_to_all)
        .unit(unit)
        .thresholds(_steps(steps or ((None, GREEN),)))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC))
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .draw_style(c.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(60 if stack else 10)
        .show_points(c.VisibilityMode.NEVER)
        .span_nulls(False)
        .axis_soft_max(soft_max)
        .stacking(common.StackingConfig().mode(c.StackingMode.NORMAL if stack else c.StackingMode.NONE))
    )
    if soft_min is None:
        panel.min(0)
    else:
        panel.axis_soft_min(soft_min)
    if highest is not None:
        panel.max(highest)
    if steps:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED))
    for line in [limit] if isinstance(limit, str) else limit or ():
        panel.override_by_name(line, _as_limit())
    for line, color in (colors or {}).items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel.override_by_name(line, [d.DynamicConfigValue(id_val="color", value=fixed)])
    for place, (expr, name) in enumerate(lines):
        panel.with_target(_target(expr, name, chr(ord("A") + place)))
    return panel


def table(
    title: str,
    about: str,
    key: dict[str, str | None],
    *columns,
    only: str | None = None,
    go: dict[str, str] | None = None,
    words: dict[str, dict] | None = None,
    sort: str | None = None,
    first: str | None = None,
    **common_to_all,
):
    """One row for each value of the labels in `key` (label -> heading, or None: not shown). A
    column is its heading, an expression, a unit, and, where they mean something, the steps of its
    color or words for its values. No column: the labels alone, of the series of `only`. `go` are
    links and `words` colors of words by heading; the rows are sorted by `sort`, largest first, or by `first`."""
    panel = (
        _begin(table_panel.Panel(), title, about, 24, 8, **common_to_all)
        .thresholds(_steps(((None, GREY),)))
        .cell_options(c.TableAutoCellOptions())
        .min_width(80)
        .cell_height(c.TableCellHeight.SM)
        .show_header(True)
        .frame_index(0)
        .filterable(True)
    )
    names = {label: heading for label, heading in key.items() if heading}
    hidden = {"Time": True} | {label: True for label in key.keys() - names.keys()}
    if not columns:
        columns = (("Value", only, "short"),)
        hidden["Value"] = True
    values = [f"Value #{chr(ord('A') + place)}" for place in range(len(columns))]
    if len(columns) == 1:
        values = ["Value"]
    for place, (heading, expr, unit, *meaning) in enumerate(columns):
        ref = chr(ord("A") + place)
        panel.with_target(_target(expr, "", ref, instant=True, rows=True))
        names[values[place]] = heading
        properties = [d.DynamicConfigValue(id_val="unit", value=unit)]
        if meaning:
            properties += _meaning(meaning[0])
        panel.override_by_name(heading, properties)
    for heading, url in (go or {}).items():
        link = {"title": "Look into it", "url": url}
        panel.override_by_name(heading, [d.DynamicConfigValue(id_val="links", value=[link])])
    for heading, meaning in (words or {}).items():
        panel.override_by_name(heading, _meaning(meaning))
    for heading in names.values():
        if heading in WIDTHS:
            width = d.DynamicConfigValue(id_val="custom.width", value=WIDTHS[heading])
            panel.override_by_name(heading, [width])
    panel.with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
    order = {name: place for place, name in enumerate(names)}
    panel.with_transformation(
        d.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": hidden, "indexByName": order, "renameByName": names},
        )
    )
    if by := sort or first:
        panel.sort_by([common.TableSortByFieldState().display_name(by).desc(bool(sort))])
    return panel


def bars(title: str, about: str, expr: str, name: str, unit: str = "short", **common_to_all):
    """A bar for each series, as it is now."""
    return (
        _begin(bargauge.Panel(), title, about, 8, 8, **common_to_all)
        .unit(unit)
        .min(0)
        .thresholds(_steps(((None, BLUE),)))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .value_mode(c.BarGaugeValueMode.TEXT)
        .name_placement(c.BarGaugeNamePlacement.LEFT)
        .show_unfilled(True)
        .sizing(c.BarGaugeSizing.MANUAL)
        .min_viz_height(16)
        .max_viz_height(34)
        .text(common.VizTextDisplayOptions().title_size(14).value_size(16))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(expr, name, instant=True))
    )


def top(count: int, shown: str, ranked: str) -> str:
    """The series of `shown` that rank highest over the whole time that is looked at."""
    return f"({shown}) and topk({count}, {ranked})"


def rows(board: dashboard.Dashboard, open_rows: dict, folded_rows: dict) -> dashboard.Dashboard:
    """Adds rows of panels by title: those that are open, and below them those that unfold."""
    for title, panels in open_rows.items():
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    for title, panels in folded_rows.items():
        row = dashboard.Row(title).collapsed(True)
        for panel in panels:
            row.with_panel(panel)
        board.with_row(row)
    return board


def _begin(
    panel,
    title: str,
    about: str,
    usual_width: int,
    usual_height: int,
    *,
    width: int | None = None,
    height: int | None = None,
    none: str = "no data",
    runbook: str | None = None,
    see: dict[str, str] | None = None,
):
    """What is common to all panels. `none` is said where there is no series; `runbook` is the alert
    that watches the same thing; `see` are other dashboards, by the words of the link."""
    about = re.sub(r"\s+", " ", about.strip())
    if runbook:
        about += f"\n\nAlert: {runbook}, with the runbook `alerts/runbooks/{runbook}.md`."
    panel.title(title).description(about).no_value(none).datasource(DATASOURCE)
    panel.span(width or usual_width).height(height or usual_height)
    if see:
        panel.links(
            [
                dashboard.DashboardLink(words).type(d.DashboardLinkType.LINK).url(f"/d/{uid}?{KEEP}")
                for words, uid in see.items()
            ]
        )
    return panel


def _target(expr: str, legend: str, ref: str = "A", instant: bool = False, rows: bool = False):
    query = (
        prometheus.Dataquery()
        .expr(promql(expr))
        .legend_format(legend)
        .ref_id(ref)
        .datasource(DATASOURCE)
        .editor_mode(QueryEditorMode.CODE)
        .format(PromQueryFormat.TABLE if rows else PromQueryFormat.TIME_SERIES)
    )
    return query.instant() if instant else query.range()


def _steps(steps) -> dashboard.ThresholdsConfig:
    thresholds = [d.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(thresholds)


def _words(says: dict) -> list:
    """A word, and its color, for a value."""
    options = {
        str(value): d.ValueMappingResult(text=text, color=color, index=place)
        for place, (value, (text, color)) in enumerate(says.items())
    }
    return [d.ValueMap(options=options)]


def _as_limit() -> list:
    """How a line looks that is a limit and no measurement."""
    style = {
        "color": {"mode": "fixed", "fixedColor": RED},
        "custom.lineStyle": {"fill": "dash", "dash": [8, 8]},
        "custom.fillOpacity": 0,
        "custom.stacking": {"mode": "none", "group": "limit"},
    }
    return [d.DynamicConfigValue(id_val=key, value=value) for key, value in style.items()]


def _meaning(of) -> list:
    """How a cell looks whose value is good or bad: by steps, or by words for values."""
    colored = d.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"})
    if isinstance(of, dict):
        return [colored, d.DynamicConfigValue(id_val="mappings", value=_words(of))]
    thresholds = {
        "mode": "absolute",
        "steps": [{"value": value, "color": color} for value, color in of],
    }
    return [colored, d.DynamicConfigValue(id_val="thresholds", value=thresholds)]


# Columns whose usual width does not do.
WIDTHS = {"Severity": 110, "Schema": 110, "Table": 280, "Collector": 240}
# What a link to another dashboard keeps.
KEEP = "&".join(
    f"${{{name}:queryparam}}" for name in ("datasource", "namespace", "job", "instance", "server")
) + "&${__url_time_range}"
