"""Checks ../*.json against the habits of good dashboards and against what the exporter really has.

    lint.py PROGRAM     the exporter, which is asked for its catalogue of metrics

The rules are those of Grafana's dashboard-linter, and some of ours. We deviate in one: job,
instance and the like are chosen one at a time and matched with =, since each page shows one server.
"""

import json
import re
import subprocess
import sys
from typing import NamedTuple

import promql_parser as promql

from build import BOARDS, FOLDER, every_panel
from panels import LIMITS

ROOT = FOLDER.parent
# Labels that Prometheus gives to each series.
TARGET_LABELS = {"namespace", "job", "instance", "server"}
# What the rules make, and not the exporter: alerts and their limits. They are of no server.
ALERTS = {"kind": "gauge", "labels": ["alertstate", "alertname", "severity", "datname", "system_identifier"]}
LIMIT = {"kind": "gauge", "labels": []}
# Functions that a counter, and nothing but a counter, goes through.
OF_COUNTERS = {"rate", "irate", "increase"}


def main():
    """Prints what is wrong, one line each; exit code 1 if anything is."""
    catalogue = Catalogue(sys.argv[1])
    texts = {name: (FOLDER / name).read_text() for name in BOARDS}
    if problems := check(texts, catalogue):
        sys.exit("\n".join(problems))
    if missed := [slip for slip in SLIPS if not slip.is_seen(texts, catalogue)]:
        sys.exit("\n".join(f"this lint does not see the slip {slip}" for slip in missed))
    boards = {name: json.loads(text) for name, text in texts.items()}
    panels = sum(1 for board in boards.values() for _ in every_panel(board))
    print(f"{len(boards)} dashboards with {panels} panels and rows: no fault")


def check(texts: dict[str, str], catalogue: "Catalogue") -> list[str]:
    """Problems of dashboards, which are given by their names."""
    boards = {name: json.loads(text) for name, text in texts.items()}
    uids = {board["uid"] for board in boards.values()}
    problems = [
        f"dashboards/{name}: {problem}"
        for name, board in boards.items()
        for problem in check_board(board, catalogue, uids)
    ]
    if len(uids) < len(boards):
        problems.append("two dashboards have the same uid")
    return problems


class Slip(NamedTuple):
    """A slip of the pen, in whatever dashboard it can be made, and what has to be said of it."""

    wrote: str
    instead_of: str
    complaint: str

    def is_seen(self, texts: dict[str, str], catalogue: "Catalogue") -> bool:
        """Whether the lint complains of it."""
        slipped = {name: text.replace(self.instead_of, self.wrote) for name, text in texts.items()}
        return any(self.complaint in problem for problem in check(slipped, catalogue))


# The lint is tried on these each time that it runs.
SLIPS = [
    Slip("label_values(pg_upp,", "label_values(pg_up,", "no metric pg_upp"),
    Slip("pg_wal_size{", "pg_wal_size_bytes{", "no metric pg_wal_size"),
    Slip("by (moode)", "by (mode)", "no metric here has the label moode"),
    Slip("{{user}}", "{{usename}}", "no metric here has the label user"),
    Slip("threshold=", "threshold_seconds=", "has no label threshold"),
    Slip("deadlocks{instance", 'deadlocks{job=\\"$job\\", instance', "is not of job"),
    Slip("count{{", "count{", "is not PromQL"),
    Slip("[5m]", "[$__rate_interval]", "rate() over 5m"),
    Slip("(pg_locks_count{", "(pg_stat_database_deadlocks{", "is not a counter"),
    Slip("(pg_stat_database_deadlocks{", "(pg_locks_count{", "is a counter"),
    Slip('state=~\\"active', 'state=\\"active', "a regex that matches only itself"),
    Slip("runbooks/Postgress", "runbooks/Postgres", "a runbook that is not here"),
    Slip("/d/matrix-postgress", "/d/matrix-postgres", "leads to no dashboard"),
    Slip('"w": 5', '"w": 4', "overlap"),
    Slip('"noValue": ""', '"noValue": "no data"', "what no data means"),
    Slip('"label": ""', '"label": "Instance"', "has no label"),
    Slip('"title": "Role"', '"title": "Status"', "two panels have the title"),
    Slip("limit:idle", "limit:pg_idle", "no metric limit:idle"),
    Slip('"includeVars": false', '"includeVars": true', "in our dashboards only"),
    Slip('"editable": true', '"editable": false', "is editable"),
    Slip('"refresh": 1', '"refresh": 2', "is not refreshed"),
]


class Catalogue:
    """What the exporter can serve: labels and kind by name."""

    def __init__(self, program: str):
        printed = subprocess.check_output([program, "metrics", "--format", "json"], text=True)
        parts = json.loads(printed)
        metrics = [m for collector in parts["collectors"] for m in collector["metrics"]]
        metrics += parts["own"]
        self._metrics = {m["name"]: m for m in metrics if "*" not in m["name"]}
        self._families = {m["name"].rstrip("*"): m for m in metrics if m["name"].endswith("*")}

    def find(self, name: str) -> dict | None:
        """The metric of that name, or the family that it is of."""
        if name == "ALERTS":
            return ALERTS
        if name.startswith("limit:"):
            return LIMIT if name.removeprefix("limit:") in LIMITS else None
        of = (m for prefix, m in self._families.items() if name.startswith(prefix))
        return self._metrics.get(name) or next(of, None)


def check_board(board: dict, catalogue: Catalogue, uids: set[str]):
    """Problems of one dashboard."""
    if not re.fullmatch(r"[a-z0-9-]{3,40}", board["uid"]):
        yield f"uid {board['uid']} is not short and plain"
    if board["editable"]:
        yield "is editable, but the next update would overwrite what somebody changed"
    if board.get("id") or "__inputs" in board:
        yield "has id or __inputs, which provisioning does not resolve"
    yield from check_variables(board, catalogue)
    for link in board["links"]:
        if not link["keepTime"]:
            yield f"link {link['title']} does not keep the time"
        if link["includeVars"] != ("matrix-postgres" in link["tags"]):
            yield f"link {link['title']}: what was chosen here means something in our dashboards only"
    for mark in board["annotations"]["list"]:
        for problem in check_query(mark["expr"], catalogue):
            yield f"annotation {mark['name']}: {problem}"
    yield from check_places(board)

    titles = [panel["title"] for panel in every_panel(board)]
    for title in {title for title in titles if titles.count(title) > 1}:
        yield f"two panels have the title {title}"
    for panel in every_panel(board):
        if panel["type"] == "row":
            continue
        for problem in check_panel(panel, catalogue, uids):
            yield f"panel {panel['title']}: {problem}"


def check_variables(board: dict, catalogue: Catalogue):
    """What is chosen is there, in use, and fresh."""
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    missing = {"datasource", *TARGET_LABELS} - variables.keys()
    if missing:
        yield f"has no variable {', '.join(sorted(missing))}"
    without = json.dumps({**board, "templating": None})
    for name, variable in variables.items():
        later = [v for v in board["templating"]["list"] if v is not variable]
        if not re.search(rf"\$(?:\{{)?{name}\b", without + json.dumps(later)):
            yield f"variable {name} is never used"
        if not variable.get("label"):
            yield f"variable {name} has no label"
        if variable["type"] == "query":
            if variable["refresh"] != 2:
                yield f"variable {name} is not refreshed when the time changes"
            metric, label = re.match(r"label_values\((\w+).*, (\w+)\)$", variable["query"]["query"]).groups()
            found = catalogue.find(metric)
            if not found or label not in TARGET_LABELS | set(found["labels"]):
                yield f"variable {name}: the exporter has no metric {metric} with a label {label}"
        if variable.get("multi") and variable.get("allValue") != ".+":
            yield f"variable {name} has several values, and `All` of them is not .+"
        if variable.get("regex"):
            yield f"variable {name} has a regex"


def check_places(board: dict):
    """No panel lies on another, or beyond the edge."""
    taken = {}
    for panel in board["panels"]:
        yield from claim(taken, panel, "")
        if panel.get("panels"):
            folded = {}
            for inner in panel["panels"]:
                yield from claim(folded, inner, panel["title"])


def claim(taken: dict, panel: dict, row: str):
    """Takes the cells of a panel."""
    place = panel["gridPos"]
    if place["x"] + place["w"] > 24:
        yield f"panel {panel['title']} {row} is beyond the edge"
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            other = taken.setdefault((x, y), panel)
            if other is not panel:
                yield f"panels {other['title']} and {panel['title']} overlap"
                return


def check_panel(panel: dict, catalogue: Catalogue, uids: set[str]):
    """Problems of one panel."""
    defaults = panel["fieldConfig"]["defaults"]
    if len(panel.get("description") or "") < 40:
        yield "its description does not say what is good, what is bad and what to do"
    if panel["type"] == "stat" and len(panel["title"]) > 24:
        yield "its title is too long to be read"
    if not defaults.get("noValue"):
        yield "does not say what no data means"
    if panel["datasource"]["uid"] != "${datasource}":
        yield "has a data source of its own"
    if not panel.get("targets"):
        yield "asks for nothing"
    yield from check_links(panel, uids)
    for target in panel["targets"]:
        if target["datasource"]["uid"] != "${datasource}":
            yield "has a target with a data source of its own"
        shown = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat") or ""))
        for problem in check_query(target["expr"], catalogue, shown):
            yield f"{problem}, in {target['expr']}"


def check_links(panel: dict, uids: set[str]):
    """Links lead to dashboards that are here, and the runbook is there."""
    links = list(panel.get("links") or [])
    for override in panel["fieldConfig"]["overrides"]:
        for change in override["properties"]:
            links += change["value"] if change["id"] == "links" else []
    for link in links:
        if link["url"] == "${repository}/alerts/runbooks/${__value.raw}.md":
            continue
        board = re.match(r"/d/([^?]+)\?", link["url"])
        if not board or board[1] not in uids:
            yield f"leads to no dashboard that is here: {link['url']}"
    for runbook in re.findall(r"alerts/runbooks/\w+\.md", panel["description"]):
        if not (ROOT / runbook).exists():
            yield f"names a runbook that is not here: {runbook}"


def check_query(expr: str, catalogue: Catalogue, shown: set[str] = frozenset()):
    """Problems of one expression; `shown` are the labels that its legend names."""
    windows = re.findall(r"(i?rate)\([^()]*\[([^]]+)\]", expr)
    for function, window in windows:
        if window != "$__rate_interval":
            yield f"{function}() over {window} and not $__rate_interval"
    try:
        # Ranges are the only place where a variable is not a string.
        tree = promql.parse(re.sub(r"\$__(rate_interval|range)\b", "5m", expr))
    except ValueError as reason:
        yield f"is not PromQL: {reason}"
        return
    seen = list(nodes(tree, ()))
    known = set(TARGET_LABELS)
    for node, around in seen:
        if isinstance(node, promql.VectorSelector):
            metric = catalogue.find(node.name)
            if not metric:
                yield f"the exporter has no metric {node.name}"
                continue
            known |= set(metric["labels"])
            yield from check_selector(node, metric, around)
    known |= {node.args[1].val for node, _ in seen if makes_label(node)}
    named = set(shown)
    for node, _ in seen:
        named |= set(labels_of(node))
    for label in sorted(named - known):
        yield f"no metric here has the label {label}"


def check_selector(node, metric: dict, around: tuple[str, ...]):
    """Problems of one metric with its matchers, inside the functions `around`."""
    matchers = [(m.name, str(m.op), m.value) for m in node.matchers.matchers]
    for label in sorted(TARGET_LABELS - set(metric["labels"])) if metric not in (ALERTS, LIMIT) else ():
        if (label, "MatchOp.Equal", f"${label}") not in matchers:
            yield f'{node.name} is not of {label}="${label}"'
    for label, op, value in matchers:
        if label not in TARGET_LABELS | set(metric["labels"]):
            yield f"{node.name} has no label {label}"
        if op in ("MatchOp.Re", "MatchOp.NotRe") and not re.search(r"[$.|]", value):
            yield f"{node.name} has a regex that matches only itself: {value}"
    counter = metric["kind"] == "counter"
    through = OF_COUNTERS & set(around)
    if counter and not through:
        yield f"{node.name} is a counter, which means nothing without rate() or increase()"
    if through and not counter:
        yield f"{node.name} is not a counter, and goes through {', '.join(sorted(through))}()"


def nodes(node, around: tuple[str, ...]):
    """An expression and what it consists of, each with the functions around it."""
    yield node, around
    if isinstance(node, promql.Call):
        around = (*around, node.func.name)
        for argument in node.args:
            yield from nodes(argument, around)
    elif isinstance(node, promql.MatrixSelector):
        yield from nodes(node.vector_selector, around)
    elif isinstance(node, promql.BinaryExpr):
        yield from nodes(node.lhs, around)
        yield from nodes(node.rhs, around)
    elif hasattr(node, "expr"):
        yield from nodes(node.expr, around)


def makes_label(node) -> bool:
    """Whether a function gives its result another label."""
    return isinstance(node, promql.Call) and node.func.name in ("label_replace", "label_join")


def labels_of(node) -> list[str]:
    """The labels that an operator or a function names."""
    if isinstance(node, promql.AggregateExpr):
        return node.modifier.labels if node.modifier else []
    if isinstance(node, promql.BinaryExpr):
        matching = node.modifier and node.modifier.matching
        return matching.labels if matching else []
    if isinstance(node, promql.Call) and node.func.name == "label_replace":
        return [node.args[3].val]
    return []


if __name__ == "__main__":
    main()
