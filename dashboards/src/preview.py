"""Takes pictures of the dashboards, drawn from live data by Grafana's own panels.

    preview.py PROGRAM FOLDER     the exporter; and where the pictures go

NAME.png and NAME-light.png show the first screens of a healthy server, FAULT.png and FAULT-light.png the first
screen where something is wrong, NAME-all-dark.png and NAME-all-light.png everything.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bed import Bed, Failed, bed
from drill import connections

SOURCE = Path(__file__).resolve().parent
BOARDS = ("instance", "synapse", "people")
# How long the data is: long enough for lines, short enough to wait for.
SECONDS = int(os.environ.get("SECONDS_OF_DATA", "240"))
# How much of a fault is shown, from its alert on.
SECONDS_OF_FAULT = SECONDS // 4
PATIENCE = 120
WIDTH = 1400
SHOWN_HEIGHT = 1728
FIRST_SCREEN = 1100


@dataclass
class Fault:
    """What is wrong, on which dashboard it is looked at, and the alert that it raises."""

    board: str
    alert: str
    make: Callable


@contextmanager
def standby_cut(found: Bed):
    """The standby streams no more, for good."""
    found.cut_standby()
    yield


@contextmanager
def connections_used_up(found: Bed):
    """As in the drill."""
    with connections(found.demo):
        yield


@contextmanager
def row(found: Bed, table: str, values: str, which: str):
    """A row of the made-up Synapse's, while it lasts."""
    sql = [f"INSERT INTO {table} VALUES {values}", f"DELETE FROM {table.split()[0]} WHERE {which}"]
    found.demo.postgres.run(found.demo.database, sql[0])
    yield
    found.demo.postgres.run(found.demo.database, sql[1])


@contextmanager
def background_update_stuck(found: Bed):
    """One that no Synapse knows."""
    with row(found, "background_updates (update_name, progress_json)", "('sticks', '{}')", "update_name = 'sticks'"):
        yield


@contextmanager
def bridge_down(found: Bed):
    """Synapse has marked it as down."""
    with row(found, "application_services_state (as_id, state)", "('bridge', 'down')", "as_id = 'bridge'"):
        yield


# What does not heal comes last.
FAULTS = {
    "synapse-background-update-stuck": Fault("synapse", "SynapseBackgroundUpdateStuck", background_update_stuck),
    "synapse-bridge-down": Fault("synapse", "SynapseAppserviceDown", bridge_down),
    "instance-connections-used-up": Fault("instance", "PostgresConnectionsSaturated", connections_used_up),
    "instance-standby-cut": Fault("instance", "PostgresNoStandby", standby_cut),
}


def main():
    """Waits while Prometheus gathers data, and draws; then makes one fault after the other."""
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda *_: sys.exit(1))
    program, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        raise Failed("chromium is missing; on Debian and Ubuntu: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with bed(program) as found:
        print(f"gathering {SECONDS} s of data ...", flush=True)
        time.sleep(SECONDS)
        wait(lambda: not alerts(found), f"all should be well, and something fires: {alerts(found)}")
        wait(lambda: all_is_seen(found), "the machine is too busy, collectors are too slow")
        pictures = []
        for name in BOARDS:
            pictures += both_themes(found, name, folder / name, height=SHOWN_HEIGHT)
            pictures += both_themes(found, name, folder / f"{name}-all", dark="-dark")
        shoot(browser, pictures)
        for name, fault in FAULTS.items():
            with fault.make(found):
                print(f"waiting for {fault.alert} ...", flush=True)
                wait(lambda: fault.alert in alerts(found), f"no alert {fault.alert}")
                time.sleep(SECONDS_OF_FAULT)
                wait(lambda: all_is_seen(found), "the machine is too busy, collectors are too slow")
                pictures = both_themes(found, fault.board, folder / name, height=FIRST_SCREEN, seconds=SECONDS // 2)
                shoot(browser, pictures)
            if fault.make is not standby_cut:
                wait(lambda: not alerts(found), f"{fault.alert} goes on")
                time.sleep(SECONDS // 2)


def all_is_seen(found: Bed) -> bool:
    """Whether no collector was too slow for the last scrape, as on a busy machine."""
    return not found.prometheus.series('pg_exporter_collector_skipped{reason=~"deadline|.+_timeout"}', seconds=0)


def alerts(found: Bed) -> set[str]:
    """Those that fire now."""
    series = found.prometheus.series('ALERTS{alertstate="firing"}', seconds=0)
    return {one["metric"]["alertname"] for one in series}


def wait(condition: Callable[[], bool], otherwise: str):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{otherwise} within {PATIENCE} s")
        time.sleep(1)


def both_themes(found: Bed, name: str, file: Path, dark: str = "", **more) -> list[dict]:
    """The pictures of a dashboard that are asked for."""
    asked = {
        "board": json.loads((SOURCE.parent / f"{name}.json").read_text()),
        "prometheus": found.prometheus.url,
        "variables": found.prometheus.variables(SECONDS, ".+" if name == "instance" else "synapse"),
        "seconds": more.pop("seconds", SECONDS),
        "width": WIDTH,
        **more,
    }
    return [
        {**asked, "file": f"{file}{dark}.png", "dark": True},
        {**asked, "file": f"{file}-light.png", "dark": False},
    ]


def shoot(browser: str, pictures: list[dict]):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as asked:
        # Chromium refuses its sandbox to root.
        json.dump({"chromium": browser, "sandbox": os.geteuid() != 0, "pictures": pictures}, asked)
        asked.flush()
        if subprocess.run([SOURCE / "grafana/run.sh", "shoot.mjs", asked.name]).returncode:
            raise Failed("no pictures were taken")


if __name__ == "__main__":
    try:
        main()
    except Failed as reason:
        sys.exit(f"the preview failed: {reason}")
