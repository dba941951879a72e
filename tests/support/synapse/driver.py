"""Runs a Synapse with traffic for a test.

Run by the Python of an environment from ../install/synapse.sh. In the folder of an earlier run it goes
on where that ended, on the same database and perhaps as another version. Prints what was made, as one line of
JSON, and again after each signal that it obeys:

    SIGUSR1  sends messages until told otherwise
    SIGUSR2  sends no more of them
    SIGHUP   deletes a room and purges its history
    SIGALRM  does everything else that leaves rows, once; from then on more numbers are printed
    SIGTERM, SIGQUIT, SIGINT  ends, and Synapse with it
"""

import argparse
import json
import signal
import sys
from pathlib import Path
from queue import SimpleQueue

from homeserver import Homeserver, Postgres
from process import Failed
from thorough import Thorough


def main():
    """Starts what is asked for, then does as it is told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="PostgreSQL's address, or the folder of its socket")
    parser.add_argument("--port", required=True, type=int, help="PostgreSQL's port")
    parser.add_argument("--database", default="synapse", help="the database to make")
    parser.add_argument("--state-database", default="", help="one more, for the state of rooms")
    parser.add_argument("--folder", required=True, type=Path, help="for Synapse's files, given to it")
    parser.add_argument("--bridge-url", help="where Synapse sends what is for its bridge; nowhere by default")
    arguments = parser.parse_args()
    for end in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(end, lambda *_: sys.exit(0))

    postgres = Postgres(arguments.host, arguments.port)
    databases = (arguments.database, arguments.state_database)
    with Homeserver(postgres, arguments.folder, *databases, arguments.bridge_url) as homeserver:
        obey(Thorough(homeserver))


def obey(traffic: Thorough):
    """Answers signals until one ends it."""
    commands = SimpleQueue()
    signal.signal(signal.SIGUSR1, lambda *_: commands.put(traffic.talk))
    signal.signal(signal.SIGUSR2, lambda *_: commands.put(traffic.hush))
    signal.signal(signal.SIGHUP, lambda *_: commands.put(traffic.purge))
    signal.signal(signal.SIGALRM, lambda *_: commands.put(traffic.use_everything))
    try:
        while True:
            print(json.dumps(traffic.summary()), flush=True)
            commands.get()()
    finally:
        traffic.hush()


if __name__ == "__main__":
    try:
        main()
    except Failed as reason:
        sys.exit(str(reason))
