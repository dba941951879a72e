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

    def __init__(self, name: str, command: list, log: Path, env: dict | None = None, end_with: signal.Signals = signal.SIGTERM):
        self.name = name
        self.log = log
        self._end_with = end_with
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                as_nobody(command, end_with),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env=env,
                # Ctrl-C in the terminal is ours to pass on, in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(self._end_with)

    def end(self, how: signal.Signals):
        """Asks it to end, then makes it."""
        if self._child.poll() is None:
            self._child.send_signal(how)
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def wait_until(self, ready, seconds: float = 60):
        """Waits until `ready()` gives something true, and returns that."""
        deadline = time.monotonic() + seconds
        while not (answer := ready()):
            self.check()
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} is not ready after {seconds:.0f} s; {self.tail()}")
            time.sleep(0.05)
        return answer

    def check(self):
        """Fails unless it still runs."""
        if self._child.poll() is not None:
            raise Failed(f"{self.name} has ended, with exit code {self._child.returncode}; {self.tail()}")

    def tail(self) -> str:
        """The last lines of the log, as the end of a sentence."""
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "\n  ".join(["its log ends with:", *lines])


def as_nobody(command: list, end_with: signal.Signals = signal.SIGTERM) -> list:
    """The command, told to end when we do and, where we are root, to run as nobody."""
    wrapper = ["setpriv", f"--pdeathsig={end_with.name[3:]}"]
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
