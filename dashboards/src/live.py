"""Asks a real Prometheus for every target of every panel: each must give a number.

live.py PROGRAM     the exporter, which watches a real Synapse meanwhile
"""

import json
import signal
import sys
import time
from pathlib import Path

from bed import Failed, bed

FOLDER = Path(__file__).resolve().parents[1]
PATIENCE = 120

SMALL = "the tables have less than ten thousand rows"

# Targets that give nothing here, by dashboard, panel and letter, and why.
MAY_BE_EMPTY = {
    **{(board, "Firing alerts", "A"): "all is well here" for board in ("instance", "people", "synapse")},
    ("instance", "Connections by role, with its limit", "A"): "no role has a limit here",
    ("instance", "Connections by role, with its limit", "B"): "no role has a limit here",
    **{
        ("instance", "Time spent on reading and writing blocks", letter): "track_io_timing is off here"
        for letter in "AB"
    },
    **{("instance", "WAL receiver of this standby", letter): "here is the primary" for letter in "AB"},
    ("instance", "Warnings on the exporter's role", "A"): "its role is as it should be",
    ("instance", "Sessions waiting for locks", "A"): "nobody waits here",
    ("instance", "Commits waiting for a synchronous standby", "A"): "no standby is synchronous here",
    ("instance", "Progress of running vacuums", "A"): "small tables are done before a scrape",
    ("instance", "Down reason", "A"): "here it is up",
    ("instance", "Writers of changed blocks", "C"): "counted up to PostgreSQL 16 only",
    ("instance", "Largest tables: size, dead rows, vacuum", "D"): SMALL,
    ("synapse", "Largest tables: size and growth", "E"): SMALL,
    **{("synapse", "Counts that are not exact", letter): "small tables are counted" for letter in "ABC"},
    ("synapse", "Background updates by name", "A"): "a fresh Synapse is done in seconds",
    ("synapse", "Application service transactions waiting", "A"): "the bridge here wants nothing",
    ("synapse", "Application service transactions waiting", "B"): "the bridge here wants nothing",
    ("synapse", "Scheduled tasks by status", "A"): "nobody purges anything",
    ("synapse", "Collectors skipped, by reason", "A"): "here it sees everything",
}


def main():
    """Waits until all targets give something; exit code 1 and their names if some never do."""
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda *_: sys.exit(1))
    with bed(Path(sys.argv[1])) as found:
        prometheus = found.prometheus
        empty = targets()
        print(f"asking for {len(empty)} targets ...", flush=True)
        deadline = time.monotonic() + PATIENCE
        while empty and time.monotonic() < deadline:
            empty = [one for one in empty if not prometheus.values(chosen(one[3], prometheus))]
            time.sleep(1)
            if all(one[:3] in MAY_BE_EMPTY for one in empty):
                break
    for *where, _ in empty:
        if reason := MAY_BE_EMPTY.get(tuple(where)):
            print(f"empty, as it may be: {' / '.join(where)}: {reason}")
    if wrong := [one for one in empty if one[:3] not in MAY_BE_EMPTY]:
        sys.exit("\n".join(f"gives nothing: {' / '.join(one)}" for one in wrong))
    print("every other target gives numbers")


def targets() -> list[tuple[str, str, str, str]]:
    """Dashboard, panel, letter and expression of each target."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text())
        panels = [inner for panel in board["panels"] for inner in [panel, *(panel.get("panels") or [])]]
        for panel in panels:
            for target in panel.get("targets") or []:
                found.append((path.stem, panel["title"], target["refId"], target["expr"]))
    return found


def chosen(expr: str, prometheus) -> str:
    """An expression with the variables replaced, as Grafana does it."""
    for name, value in prometheus.variables(60, "synapse").items():
        expr = expr.replace(f"${name}", value)
    return expr


if __name__ == "__main__":
    try:
        main()
    except Failed as reason:
        sys.exit(f"the check failed: {reason}")
