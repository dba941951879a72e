"""A child process that logs to a file, runs as nobody where we are root, and never outlives us."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

NOBODY = 65534


class Failed(Exception):
    """Something did not work; the message is for the person who waits for it."""


class Process:
    """A program that runs until it is stopped."""

    def __init__(self, name: str, command: list, log: Path, env: dict | None = None, stop_with=signal.SIGTERM):
        self.name = name
        self.log = log
        self._stop_with = stop_with
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                as_nobody(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env=env,
                # Ctrl-C in the terminal is ours to pass on, in order.
                start_new_session=True,
            )

    def wait_until(self, ready, seconds: float = 60):
        """Waits until `ready()` gives something true, and returns that."""
        deadline = time.monotonic() + seconds
        while not (answer := ready()):
            if self._child.poll() is not None:
                raise Failed(f"{self.name} ended with exit code {self._child.returncode}; {self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} is not ready after {seconds:.0f} s; {self.tail()}")
            time.sleep(0.05)
        return answer

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log, as the end of a sentence."""
        last = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "the last lines of its log:\n" + "\n".join(f"  {line}" for line in last)

    def stop(self):
        """Asks it to end, then makes it; safe to call twice."""
        if self._child.poll() is None:
            self._child.send_signal(self._stop_with)
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


def as_nobody(command: list) -> list:
    """The command, told to die with us and, where we are root, to run as nobody."""
    wrapper = ["setpriv", "--pdeathsig", "TERM"]
    if os.geteuid() == 0:
        wrapper += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*wrapper, "--", *map(str, command)]


def give_to_nobody(*paths: Path):
    """Makes folders and files belong to the user that `as_nobody` runs as."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY)


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
