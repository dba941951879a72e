"""Faults for the demo: each is made, waits for its alert, and is healed."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import psycopg2
from homeserver import ROLE, Postgres
from process import Failed, Process


@dataclass
class Demo:
    """What a fault is made of."""

    server: Process
    start_server: Callable[[], Process]
    postgres: Postgres
    database: str
    # A file; while it is there, archive_command fails.
    archive_is_full: object


@dataclass
class Fault:
    """A fault, the alert that it raises, and how long all has to be well before, for what compares."""

    alert: str
    make: Callable
    seconds_before: int = 30
    patience: int = 480


@contextmanager
def server(demo: Demo) -> Iterator[Callable]:
    """PostgreSQL ends at once, as in a crash."""
    demo.server.end(signal.SIGQUIT)
    yield lambda: None
    demo.start_server()


@contextmanager
def connections(demo: Demo) -> Iterator[Callable]:
    """A client takes every connection that it can get."""
    taken = []
    try:
        while len(taken) < 1000:
            taken.append(connect(demo))
    except psycopg2.OperationalError:
        pass
    yield lambda: None
    for connection in taken:
        connection.close()


@contextmanager
def archiving(demo: Demo) -> Iterator[Callable]:
    """archive_command fails, while WAL is written."""
    demo.archive_is_full.touch()
    yield lambda: demo.postgres.run("postgres", "SELECT pg_create_restore_point('drill'), pg_switch_wal()")
    demo.archive_is_full.unlink()


@contextmanager
def lock(demo: Demo) -> Iterator[Callable]:
    """A session locks a table of Synapse and goes idle in its transaction."""
    with closing(connect(demo)) as connection:
        connection.cursor().execute("LOCK TABLE user_ips IN SHARE MODE")
        yield lambda: None


@contextmanager
def synapse(demo: Demo) -> Iterator[Callable]:
    """Synapse may not log in to its database any more."""
    demo.postgres.run("postgres", f"ALTER ROLE {ROLE} NOLOGIN")
    leave = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
    demo.postgres.run("postgres", leave)
    yield lambda: None
    demo.postgres.run("postgres", f"ALTER ROLE {ROLE} LOGIN")


FAULTS = {
    "server": Fault("PostgresServerDown", server),
    "connections": Fault("PostgresConnectionsSaturated", connections),
    "archiving": Fault("PostgresArchivingFailing", archiving, patience=3600),
    "lock": Fault("PostgresIdleInTransaction", lock, patience=1800),
    "synapse": Fault("SynapseNoSessions", synapse, seconds_before=480),
}


def drill(name: str, demo: Demo, alerts: Callable[[], list[dict]], say: Callable[[str], None]):
    """Makes the fault, and says which alert has come after how long, and when it has gone."""
    fault = FAULTS[name]
    say(f"\nall is well for {fault.seconds_before} s, so that Prometheus knows what is usual ...")
    time.sleep(fault.seconds_before)
    before = {found["labels"]["alertname"] for found in alerts()}
    say(f"fault: {fault.make.__doc__.strip()} {fault.alert} should follow.")
    with ExitStack() as healed:
        go_on = healed.enter_context(fault.make(demo))
        begun = time.monotonic()
        while not (found := [one for one in alerts() if one["labels"]["alertname"] == fault.alert]):
            if time.monotonic() > begun + fault.patience:
                raise Failed(f"no alert {fault.alert} within {fault.patience} s")
            go_on()
            time.sleep(2)
        for one in found:
            words = one["annotations"]
            say(f"\n{time.monotonic() - begun:.0f} s later: {one['labels']['severity']} {fault.alert}")
            say(f"  {words['summary']}\n  {words['description']}\n  {words['runbook_url']}\n")
        if others := {one["labels"]["alertname"] for one in alerts()} - before - {fault.alert}:
            say(f"  with it: {', '.join(sorted(others))}")
        say("healing ...")
    begun = time.monotonic()
    while fault.alert in {one["labels"]["alertname"] for one in alerts()}:
        if time.monotonic() > begun + 3600:
            raise Failed(f"{fault.alert} still fires an hour after the fault was healed")
        time.sleep(2)
    say(f"{time.monotonic() - begun:.0f} s later {fault.alert} has resolved")


def connect(demo: Demo):
    """A session of Synapse's role."""
    return psycopg2.connect(host=demo.postgres.host, port=demo.postgres.port, user=ROLE, dbname=demo.database)
