"""Writes ../*.json, or with --check says which of them are not what the source here gives."""

import json
import re
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from instance import instance
from people import people_and_content
from synapse import synapse

FOLDER = Path(__file__).resolve().parents[1]
BOARDS = {"instance.json": instance, "people.json": people_and_content, "synapse.json": synapse}


def main():
    """Reads or writes."""
    stale = []
    for name, build in BOARDS.items():
        path = FOLDER / name
        text = render(build())
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(f"dashboards/{name}")
    if stale:
        sys.exit(f"not what dashboards/src gives: {', '.join(stale)}; run `make dashboards`")


def render(board) -> str:
    """A dashboard as it is imported: panels numbered in the order in which they are read."""
    model = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    close_gaps(model)
    model["description"] = re.sub(r"\s+", " ", model["description"])
    for number, panel in enumerate(every_panel(model), start=1):
        panel["id"] = number
        # The SDK writes what newer versions of Grafana no longer know.
        panel.get("options", {}).pop("footer", None)
    for variable in model["templating"]["list"]:
        for key in ("auto", "auto_min", "auto_count"):
            variable.pop(key, None)
    return json.dumps(model, indent=2, ensure_ascii=False) + "\n"


def close_gaps(model: dict):
    """Folded rows take one line each; the SDK leaves room for what is folded in them."""
    bottom = 0
    for panel in model["panels"]:
        move = bottom - panel["gridPos"]["y"] if panel["type"] == "row" else 0
        for one in [panel, *(panel.get("panels") or [])]:
            one["gridPos"]["y"] += move
        bottom = max(bottom, panel["gridPos"]["y"] + panel["gridPos"]["h"])


def every_panel(model: dict):
    """The panels of a dashboard, rows and what is folded in them too."""
    for panel in model["panels"]:
        yield panel
        yield from panel.get("panels") or []


if __name__ == "__main__":
    main()
