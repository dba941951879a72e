"""Real parts for the dashboards to look at: PostgreSQL, Synapse with traffic, the exporter, and a Prometheus
with the rules that scrapes it every other second. Run by the Python of Synapse's environment, as the demo is.
"""

import json
import re
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy/demo"), str(ROOT / "tests/support/synapse")]

import demo  # noqa: E402
import psycopg2  # noqa: E402
from homeserver import Homeserver, opener  # noqa: E402
from process import Failed, Process, free_port, give_to_nobody  # noqa: E402
from psycopg2.extras import PhysicalReplicationConnection  # noqa: E402
from traffic import Traffic  # noqa: E402

SCRAPE_INTERVAL = 2


@dataclass
class Bed:
    """What can be asked, and what faults are made of."""

    prometheus: "Prometheus"
    demo: demo.Demo
    # Ends the connection of the standby.
    cut_standby: Callable


@contextmanager
def bed(exporter: Path):
    """All of it. It ends, and its folder goes, with the context."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="dashboards-")))
        program = folder / "matrix-postgres-exporter"
        program.write_bytes(exporter.read_bytes())
        program.chmod(0o755)
        give_to_nobody(folder)

        server, start_server, postgres = demo.start_postgres(running, folder)
        postgres.run("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
        postgres.run("postgres", "SELECT pg_reload_conf()")
        own = folder / "synapse"
        own.mkdir()
        homeserver = running.enter_context(Homeserver(postgres, own))
        traffic = Traffic(homeserver)
        traffic.talk()
        running.callback(traffic.hush)
        cut_standby = running.enter_context(wal_reader(postgres))
        demo.grant(program, postgres, homeserver.database)
        _, url = demo.start_exporter(running, folder, program)
        prometheus = Prometheus(running, folder, urllib.parse.urlsplit(url).netloc)
        parts = demo.Demo(server, start_server, postgres, homeserver.database, folder / demo.ARCHIVE_IS_FULL)
        yield Bed(prometheus, parts, cut_standby)


@contextmanager
def wal_reader(postgres):
    """Somebody who reads WAL through a slot as a standby does, but replays it a moment late; gives what ends it."""
    ended = threading.Event()

    def read():
        with (
            closing(
                psycopg2.connect(
                    host=postgres.host,
                    port=postgres.port,
                    user=postgres.superuser,
                    application_name="standby",
                    connection_factory=PhysicalReplicationConnection,
                )
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.create_replication_slot("standby")
            cursor.execute("IDENTIFY_SYSTEM")
            position = cursor.fetchone()[2]
            cursor.start_replication(slot_name="standby", start_lsn=position)
            while not ended.is_set():
                if message := cursor.read_message():
                    at = message.data_start
                    cursor.send_feedback(write_lsn=at, flush_lsn=at, apply_lsn=at, reply=True)
                else:
                    ended.wait(0.1)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def cut():
        ended.set()
        reader.join()

    try:
        yield cut
    finally:
        cut()


def shortened(rules: str) -> str:
    """The rules with a minute that takes a second, and an hour that takes ten."""
    millis = {"s": 1000 // 60, "m": 1000, "h": 10_000}
    return re.sub(r"\b(\d+)([smh])\b", lambda found: f"{int(found[1]) * millis[found[2]]}ms", rules)


class Prometheus:
    """A Prometheus that scrapes one address."""

    def __init__(self, running: ExitStack, folder: Path, target: str):
        program = Path(sys.prefix).parent / "bin/prometheus"
        if not program.exists():
            raise Failed("Prometheus is missing; `make deps-daemons` installs it")
        config = {
            "global": {
                "scrape_interval": f"{SCRAPE_INTERVAL}s",
                "scrape_timeout": f"{SCRAPE_INTERVAL}s",
                "evaluation_interval": "1s",
            },
            "rule_files": ["*.rules.yml"],
            "scrape_configs": [{"job_name": "postgres", "static_configs": [{"targets": [target]}]}],
        }
        own = folder / "prometheus"
        own.mkdir()
        (own / "prometheus.yml").write_text(json.dumps(config))
        for file in (ROOT / "alerts").glob("*.rules.yml"):
            (own / file.name).write_text(shortened(file.read_text()))
        give_to_nobody(own)
        self._target = {"namespace": "", "job": "postgres", "instance": target, "server": ""}
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}", "--web.cors.origin=.*"]
        self._process = Process("Prometheus", command, own / "prometheus.log")
        running.enter_context(self._process)
        self._process.wait_until(lambda: self.values("pg_up == 1"))

    def variables(self, seconds: int, datname: str) -> dict[str, str]:
        """What Grafana would replace in expressions, where that many seconds are shown."""
        rate_interval = f"{max(4 * SCRAPE_INTERVAL, 15)}s"
        own = {"__rate_interval": rate_interval, "__range": f"{seconds}s", "datname": datname}
        return {**self._target, **own}

    def series(self, expr: str, seconds: int = 60) -> list:
        """What an expression gives over the last seconds."""
        now = time.time()
        asked = {"query": expr, "start": now - seconds, "end": now, "step": SCRAPE_INTERVAL}
        url = f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        try:
            with opener.open(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as refusal:
            words = refusal.read().decode()
            if refusal.code == 503:
                return []
            raise Failed(f"Prometheus refuses {expr}: {words}") from None
        except OSError:
            return []

    def values(self, expr: str) -> list[float]:
        """The numbers among that; NaN is none."""
        values = (float(value) for one in self.series(expr) for _, value in one["values"])
        return [value for value in values if value == value]
