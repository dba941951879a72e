"""A real Synapse on a real PostgreSQL, with traffic, watched by the exporter, until Ctrl-C.

Everything runs on sockets and loopback ports of its own, in a scratch folder, as nobody where root
starts it; all of it goes when this ends.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support/synapse"))

from drill import FAULTS, Demo, drill  # noqa: E402
from homeserver import Homeserver, Postgres, opener  # noqa: E402
from process import Failed, Process, as_nobody, free_port, give_to_nobody  # noqa: E402
from traffic import PASSWORD, Traffic  # noqa: E402

ROLE = "exporter"
USUAL_PORT = 9187
ARCHIVE_IS_FULL = "archive-is-full"

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
    "messages": (
        lambda made: made["messages"] + made["encrypted_messages"],
        r"synapse_db_events_(unencrypted_messages|encrypted)\{.*",
    ),
}

# Series to look at.
SHOWN = r'pg_up .*|pg_server_info\{.*|pg_database_size_bytes\{.*"synapse".*|synapse_db_(users|rooms|devices)\{.*'


def main():
    """Starts one after the other; what has been started ends in reverse."""
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compares the numbers and ends: 0 if they agree")
    parser.add_argument("--drill", choices=FAULTS, help="makes this fault, waits for its alert, heals it, and ends")
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

        server, start_server, postgres = start_postgres(running, folder)
        homeserver, made = start_synapse(running, folder, postgres)
        grant(program, postgres, made["database"])
        exporter, url = start_exporter(running, folder, program)
        watchers = start_prometheus(running, folder, url)

        report(homeserver, exporter, url, made)
        say_what_to_look_at(server, watchers)
        if arguments.drill:
            if not watchers:
                raise Failed("a drill needs Prometheus and Alertmanager")
            demo = Demo(server, start_server, postgres, made["database"], folder / ARCHIVE_IS_FULL)
            drill(arguments.drill, demo, lambda: ask(f"http://{watchers['alertmanager']}/api/v2/alerts") or [], say)
        elif not arguments.check:
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


def start_postgres(running: ExitStack, folder: Path) -> tuple[Process, Callable, Postgres]:
    """A new server, which listens on a socket in the folder and nowhere else; and how to start it again. It
    archives nothing, and fails to while ARCHIVE_IS_FULL is there."""
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
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": folder,
        "archive_mode": "on",
        "archive_command": f"test ! -e {folder / ARCHIVE_IS_FULL}",
    }
    command = [programs / "postgres", "-D", data, "-p", postgres.port]
    command += [f"--{name}={value}" for name, value in settings.items()]
    # SIGINT is a fast shutdown, SIGTERM would wait for the clients.
    def start() -> Process:
        server = Process("PostgreSQL", command, folder / "postgresql.log", environment, end_with=signal.SIGINT)
        running.enter_context(server).wait_until(postgres.answers)
        return server

    return start(), start, postgres


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
    address = f"127.0.0.1:{choose_port(USUAL_PORT)}"
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


def choose_port(usual: int) -> int:
    try:
        with socket.create_server(("127.0.0.1", usual)):
            return usual
    except OSError:
        return free_port()


def start_prometheus(running: ExitStack, folder: Path, exporter: str) -> dict[str, str]:
    """Alertmanager, and Prometheus with the rules, where they are installed; their addresses."""
    programs = Path(sys.prefix).parent / "bin"
    names = ["prometheus", "prometheus-alertmanager"]
    if missing := [name for name in names if not (programs / name).exists()]:
        say(f"no {' and no '.join(missing)} here, so the demo goes on without alerts")
        return {}
    prometheus, alertmanager = f"127.0.0.1:{choose_port(9090)}", f"127.0.0.1:{choose_port(9093)}"
    say(f"starting Alertmanager on {alertmanager} and Prometheus on {prometheus} ...")
    environment = {"PATH": os.environ["PATH"]}

    # Nobody is told: the alerts are to be looked at.
    routes = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    command = [programs / names[1], f"--web.listen-address={alertmanager}", "--cluster.listen-address="]
    command += [f"--config.file={write(folder / 'alertmanager.yml', routes)}", f"--storage.path={folder}/alertmanager"]
    process = Process("Alertmanager", command, folder / "alertmanager.log", environment)
    running.enter_context(process).wait_until(lambda: ask(f"http://{alertmanager}/api/v2/status"))

    # Nobody may be unable to enter the project.
    rules = folder / "alerts"
    rules.mkdir()
    for file in (ROOT / "alerts").glob("*.rules.yml"):
        shutil.copy(file, rules)
    target = exporter.split("/")[2]
    config = {
        "global": {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "5s"},
        "rule_files": [f"{rules}/*.rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{"job_name": "postgres", "static_configs": [{"targets": [target]}]}],
    }
    command = [programs / names[0], f"--web.listen-address={prometheus}"]
    command += [f"--config.file={write(folder / 'prometheus.yml', config)}", f"--storage.tsdb.path={folder}/prometheus"]
    process = Process("Prometheus", command, folder / "prometheus.log", environment)
    running.enter_context(process).wait_until(lambda: query(prometheus, "pg_up == 1"))
    return {"prometheus": prometheus, "alertmanager": alertmanager}


def write(file: Path, config: dict) -> Path:
    """A file of YAML, of which JSON is a part."""
    file.write_text(json.dumps(config))
    return file


def query(prometheus: str, expression: str) -> list:
    """The series that Prometheus gives for an expression; none while nobody answers."""
    answer = ask(f"http://{prometheus}/api/v1/query?query={urllib.parse.quote(expression)}")
    return answer["data"]["result"] if answer else []


def ask(url: str) -> dict | None:
    try:
        return json.load(opener.open(url, timeout=15))
    except OSError:
        return None


def say_what_to_look_at(server: Process, watchers: dict[str, str]):
    """Something to ask Prometheus, and how to see an alert."""
    if not watchers:
        return
    rules = ask(f"http://{watchers['prometheus']}/api/v1/rules?type=alert")
    count = sum(len(group["rules"]) for group in rules["data"]["groups"])
    if not count:
        raise Failed("Prometheus has no alerts")
    say(f"\nPrometheus     http://{watchers['prometheus']} watches with {count} alerts (by its API; it is unpacked without pages)")
    say(f"Alertmanager   http://{watchers['alertmanager']}\n")
    say(f"  curl -s 'http://{watchers['prometheus']}/api/v1/query?query=synapse_db_users'")
    say(f"  kill -QUIT {server.pid}    ends PostgreSQL; three minutes later this alert is firing, and its runbook is in alerts/runbooks:")
    say(f"  curl -s http://{watchers['alertmanager']}/api/v2/alerts")


def report(homeserver: Homeserver, exporter: Process, url: str, made: dict):
    """Says what was made and what is served of it; fails where these differ."""

    def compare() -> list[tuple[str, int, float]]:
        served = series(url)
        return [(name, count(made), total(served, pattern)) for name, (count, pattern) in NUMBERS.items()]

    def agree() -> bool:
        return all(count == served for _, count, served in compare())

    # What is refreshed in the background is there a moment after the first.
    deadline = time.monotonic() + 30
    while not agree() and time.monotonic() < deadline:
        exporter.check()
        time.sleep(0.2)

    say(f"\nSynapse        {homeserver.url}, users are @person0:{made['server_name']} and so on, password '{PASSWORD}'")
    say(f"the exporter   {url}\n")
    say(f"{'':14}{'made':>8}{'served':>8}")
    for name, count, served in compare():
        say(f"{name:14}{count:8}{served:8g}{'' if count == served else '   differ'}")
    say("")
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
