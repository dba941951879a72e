"""Takes pictures of the dashboards, drawn from live data by Grafana's own panels.

    preview.py PROGRAM FOLDER     the exporter; and where the pictures go

NAME-dark.png and NAME-light.png show everything, NAME.png the part that README shows.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bed import Failed, bed

SOURCE = Path(__file__).resolve().parent
BOARDS = ("instance", "synapse", "people")
# How long the data is: long enough for lines, short enough to wait for.
SECONDS = int(os.environ.get("SECONDS_OF_DATA", "240"))
WIDTH = 1400
SHOWN_HEIGHT = 1728


def main():
    """Waits while Prometheus gathers data, then draws."""
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda *_: sys.exit(1))
    program, folder = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        raise Failed("chromium is missing; on Debian and Ubuntu: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with bed(program) as prometheus, tempfile.NamedTemporaryFile("w", suffix=".json") as asked:
        print(f"gathering {SECONDS} s of data ...", flush=True)
        time.sleep(SECONDS)
        pictures = [
            {**picture, **common(prometheus, name)}
            for name in BOARDS
            for picture in (
                {"file": str(folder / f"{name}-dark.png"), "dark": True},
                {"file": str(folder / f"{name}-light.png"), "dark": False},
                {"file": str(folder / f"{name}.png"), "dark": True, "height": SHOWN_HEIGHT},
            )
        ]
        # Chromium refuses its sandbox to root.
        json.dump({"chromium": browser, "sandbox": os.geteuid() != 0, "pictures": pictures}, asked)
        asked.flush()
        if subprocess.run([SOURCE / "grafana/run.sh", "shoot.mjs", asked.name]).returncode:
            raise Failed("no pictures were taken")


def common(prometheus, name: str) -> dict:
    """What all pictures of a dashboard are asked for."""
    return {
        "board": json.loads((SOURCE.parent / f"{name}.json").read_text()),
        "prometheus": prometheus.url,
        "variables": prometheus.variables(SECONDS, ".+" if name == "instance" else "synapse"),
        "seconds": SECONDS,
        "width": WIDTH,
    }


if __name__ == "__main__":
    try:
        main()
    except Failed as reason:
        sys.exit(f"the preview failed: {reason}")
