"""Runs a Synapse with traffic for a test that speaks to it in lines.

Run by the Python of an environment from ../install/synapse.sh. Prints the summary of what was made
as one line of JSON; then reads commands, one a line, and answers each with a summary as it is then:

    talk     sends messages until told otherwise
    hush     sends no more of them
    summary  nothing but the answer

Ends, and Synapse with it, when its input ends or at SIGTERM.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from homeserver import Homeserver, Postgres
from process import Failed
from traffic import Traffic


def main():
    """Starts what is asked for, then does as it is told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="PostgreSQL's address, or the folder of its socket")
    parser.add_argument("--port", required=True, type=int, help="PostgreSQL's port")
    parser.add_argument("--database", default="synapse", help="the database to make")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    with tempfile.TemporaryDirectory(prefix="synapse-") as folder:
        homeserver = Homeserver(Postgres(arguments.host, arguments.port), Path(folder), arguments.database)
        try:
            obey(Traffic(homeserver))
        finally:
            homeserver.stop()


def obey(traffic: Traffic):
    """Answers commands until there are no more."""
    print(json.dumps(traffic.summary()), flush=True)
    commands = {"talk": traffic.talk, "hush": traffic.hush, "summary": lambda: None}
    for line in sys.stdin:
        commands[line.strip()]()
        print(json.dumps(traffic.summary()), flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as reason:
        sys.exit(str(reason))
