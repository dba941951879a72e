"""A real Synapse on a real PostgreSQL, with traffic, watched by the exporter, until Ctrl-C.

Everything runs on sockets and loopback ports of its own, in a scratch folder, as nobody where root
starts it; all of it goes when this ends.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support/synapse"))

from homeserver import Homeserver, Postgres, opener  # noqa: E402
from process import Failed, Process, as_nobody, free_port, give_to_nobody  # noqa: E402
from traffic import PASSWORD, Traffic  # noqa: E402

ROLE = "exporter"
USUAL_PORT = 9187

# What has to agree: how many were made, and the series that add up to them.
NUMBERS = {
    "users": (lambda made: made["users"]["total"], r"synapse_db_users\{.*"),
    "  guests": (lambda made: made["users"]["guests"], r'synapse_db_users\{.*kind="guest".*'),
    "  bridged": (lambda made: made["users"]["bridged"], r'synapse_db_users\{.*kind="bridged".*'),
    "  admins": (lambda made: made["users"]["admins"], r'synapse_db_users_flagged\{.*flag="admin".*'),
    "  deactivated": (lambda made: made["users"]["deactivated"], r'synapse_db_users\{.*deactivated="true".*'),
    "rooms": (lambda made: made["rooms"]["total"], r"synapse_db_rooms\{.*"),
    "  published": (lambda made: made["rooms"]["published"], r"synapse_db_rooms_published\{.*"),
    "  encrypted": (lambda made: made["rooms"]["encrypted"], r"synapse_db_rooms_encrypted\{.*"),
    "devices": (lambda made: made["devices"], r"synapse_db_devices\{.*"),
}

# Series to look at.
SHOWN = r'pg_up .*|pg_server_info\{.*|pg_database_size_bytes\{.*"synapse".*|synapse_db_(users|rooms|devices)\{.*'


def main():
    """Starts one after the other; what has been started ends in reverse."""
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compares the numbers and ends: 0 if they agree")
    parser.add_argument("--exporter", type=Path, help="the exporter's program (without this, builds it)")
    arguments = parser.parse_args()
    for end in ENDS:
        signal.signal(end, end_in_order)

    built = arguments.exporter or build_exporter()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
        # Nobody may be unable to enter the project.
        program = Path(shutil.copy(built, folder / "matrix-postgres-exporter"))
        give_to_nobody(folder)

        postgres = start_postgres(running, folder)
        homeserver, made = start_synapse(running, folder, postgres)
        grant(program, postgres, made["database"])
        exporter, url = start_exporter(running, folder, program)
        # Prometheus with the rules, and Alertmanager, start here.

        report(homeserver, exporter, url, made)
        if not arguments.check:
            say(f"\nCtrl-C ends all of this and removes {folder}, where the logs are.")
            while True:
                homeserver.process.check()
                exporter.check()
                time.sleep(1)


def build_exporter() -> Path:
    """The release build."""
    say("building the exporter ...")
    if not shutil.which("cargo"):
        raise Failed("cargo is missing; https://rustup.rs says how to get it")
    # As the owner of the project, who may write there.
    command = ["setpriv", "--pdeathsig=TERM", "cargo", "build", "--release", "--locked"]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise Failed("the exporter does not build")
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/matrix-postgres-exporter"


def start_postgres(running: ExitStack, folder: Path) -> Postgres:
    """A new server, which listens on a socket in the folder and nowhere else."""
    programs, libraries = find_postgres()
    environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries}
    version = subprocess.check_output([programs / "postgres", "--version"], env=environment, text=True)
    say(f"starting {version.strip()} from {programs} ...")

    data = folder / "postgresql"
    initdb = [programs / "initdb", "--pgdata", data, "--username=postgres", "--auth=trust"]
    initdb += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    made = subprocess.run(as_nobody(initdb), cwd=folder, env=environment, capture_output=True, text=True)
    if made.returncode:
        raise Failed(f"initdb failed: {made.stderr.strip()}")

    postgres = Postgres(str(folder), 5432)
    # It will be thrown away: no need to wait for the disk.
    settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
    command = [programs / "postgres", "-D", data, "-p", postgres.port]
    command += [f"--{name}={value}" for name, value in settings.items()]
    # SIGINT is a fast shutdown, SIGTERM would wait for the clients.
    server = Process("PostgreSQL", command, folder / "postgresql.log", environment, end_with=signal.SIGINT)
    running.enter_context(server)
    server.wait_until(postgres.answers)
    return postgres


def find_postgres() -> tuple[Path, str]:
    """The folder of its programs, and where they find libraries that are not the system's."""
    # The installers put things beside the environment whose Python runs this.
    installed = Path(sys.prefix).parent
    unpacked = installed / "daemons/postgresql/usr/lib"
    places = [
        installed / "postgres/node_modules/postgres-18/native/bin",
        *unpacked.glob("postgresql/*/bin"),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    ]
    for programs in places:
        if (programs / "postgres").exists():
            return programs, ":".join(map(str, unpacked.glob("*-linux-gnu")))
    raise Failed("PostgreSQL is missing; on Debian and Ubuntu: apt-get install postgresql")


def start_synapse(running: ExitStack, folder: Path, postgres: Postgres) -> tuple[Homeserver, dict]:
    """A Synapse, and what traffic has made on it."""
    say("starting Synapse and sending traffic ...")
    own = folder / "synapse"
    own.mkdir()
    homeserver = running.enter_context(Homeserver(postgres, own))
    return homeserver, Traffic(homeserver).summary()


def grant(program: Path, postgres: Postgres, database: str):
    """Makes the exporter's role with the SQL that the exporter itself prints."""
    say("making the exporter's role ...")
    printed = subprocess.run(
        [program, "grants", "--role", ROLE, "--database", database], capture_output=True, text=True
    )
    if printed.returncode:
        raise Failed(f"`matrix-postgres-exporter grants` failed: {printed.stderr.strip()}")
    # It is made for psql, which need not be here: each part runs in the database that it names.
    before, *parts = re.split(r'^\\connect "?([^"\n]+)"?$', printed.stdout, flags=re.MULTILINE)
    for part_database, sql in [("postgres", before), *zip(parts[::2], parts[1::2])]:
        if sql := re.sub(r"^(\\|--).*\n?", "", sql, flags=re.MULTILINE).strip():
            postgres.run(part_database, sql)


def start_exporter(running: ExitStack, folder: Path, program: Path) -> tuple[Process, str]:
    """The exporter, on its usual port where that is free, and the address of its metrics."""
    address = f"127.0.0.1:{choose_port()}"
    say(f"starting the exporter on {address} ...")
    command = [program, "serve", "--web.listen-address", address]
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": str(folder),
        "PGPORT": "5432",
        "PGUSER": ROLE,
        "PGDATABASE": "postgres",
    }
    exporter = running.enter_context(Process("the exporter", command, folder / "exporter.log", environment))
    url = f"http://{address}/metrics"
    exporter.wait_until(lambda: series(url))
    return exporter, url


def choose_port() -> int:
    try:
        with socket.create_server(("127.0.0.1", USUAL_PORT)):
            return USUAL_PORT
    except OSError:
        return free_port()


def report(homeserver: Homeserver, exporter: Process, url: str, made: dict):
    """Says what was made and what is served of it; fails where these differ."""

    def compare() -> list[tuple[str, int, float]]:
        served = series(url)
        return [(name, count(made), total(served, pattern)) for name, (count, pattern) in NUMBERS.items()]

    def agree() -> bool:
        return all(count == served for _, count, served in compare())

    # What is refreshed behind the scrapes is there a moment after the first.
    deadline = time.monotonic() + 30
    while not agree() and time.monotonic() < deadline:
        exporter.check()
        time.sleep(0.2)

    say(f"\nSynapse        {homeserver.url}, users are @person0:{made['server_name']} and so on, password '{PASSWORD}'")
    say(f"the exporter   {url}\n")
    say(f"{'':14}{'made':>8}{'served':>8}")
    for name, count, served in compare():
        say(f"{name:14}{count:8}{served:8g}{'' if count == served else '   differ'}")
    say(f"{'messages':14}{made['messages'] + made['encrypted_messages']:8}\n")
    for line in series(url):
        if re.fullmatch(SHOWN, line):
            say(line)
    if not agree():
        raise Failed(f"the exporter serves other numbers than were made; {exporter.tail()}")


def series(url: str) -> list[str]:
    """The lines of the page that carry a value; none while nobody answers."""
    try:
        page = opener.open(url, timeout=15).read().decode()
    except OSError:
        return []
    return [line for line in page.splitlines() if line and not line.startswith("#")]


def total(lines: list[str], pattern: str) -> float:
    """The sum of the series that match."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.fullmatch(pattern, line))


def say(words: str):
    print(words, flush=True)


def end_in_order(*_):
    """Ends, once: no second signal may interrupt the end."""
    for end in ENDS:
        signal.signal(end, signal.SIG_IGN)
    # The signal may have come in the middle of a print, and the terminal may be gone.
    with suppress(OSError):
        os.write(sys.stdout.fileno(), b"\nending ...\n")
    sys.exit(0)


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

if __name__ == "__main__":
    try:
        main()
    except Failed as reason:
        sys.exit(f"the demo failed: {reason}")
