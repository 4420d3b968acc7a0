# SPDX-License-Identifier: Apache-2.0
"""Stops a graph whose supervisor died without doing so, and finds a graph's processes.

Each process of a graph inherits a mark in its environment, and with it whatever it starts, also in sessions of
its own. The guard is a process of its own that waits for the end of its standard input: the supervisor holds
the other end, and the kernel closes it however the supervisor dies. Run by path, standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_DONE = b"done"


def mark_variables(mark: str) -> dict[str, str]:
    """The mark, as a variable of its own: a graph within a graph carries both."""
    return {f"CHEF_GRAPH_{mark}": "1"}


def marked(mark: str) -> list[int]:
    """Processes that carry the mark (not this one, and no zombies)."""
    ((name, value),) = mark_variables(mark).items()
    wanted = f"{name}={value}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                variables = Path(entry.path, "environ").read_bytes()
            except OSError:  # it ended meanwhile, or is another user's
                continue
            if wanted in variables.split(b"\0"):
                found.append(int(entry.name))
    return found


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each, whether or not it is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def sweep(mark: str, deadlines: tuple[tuple[signal.Signals, float], ...]) -> list[int]:
    """Signal what carries the mark, step by step until nothing is left; return what was there at first.

    Args:
        mark: the graph's.
        deadlines: a signal and the seconds to wait after it, one after the other.
    """
    first = marked(mark)
    for number, wait_s in deadlines:
        end = time.monotonic() + wait_s
        told: set[int] = set()
        while pids := marked(mark):
            send([pid for pid in pids if pid not in told], number)  # also those started since
            told.update(pids)
            if time.monotonic() >= end:
                break
            time.sleep(0.05)
        else:
            break
    return first


def start(mark: str, interrupt_s: float, terminate_s: float) -> subprocess.Popen[bytes]:
    """Start a guard; it does nothing once it has been told `done` on its standard input."""
    # -S -E: nothing of the environment, so that it starts at once and works whatever is installed.
    arguments = [sys.executable, "-S", "-E", __file__, mark, str(interrupt_s), str(terminate_s)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)


def main() -> int:
    """Wait for the supervisor's end: `guard.py MARK INT_SECONDS TERM_SECONDS`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read().strip() == _DONE:
        return 0
    time.sleep(0.2)  # for a child that was just forked and does not carry the mark yet
    int_s, term_s = float(sys.argv[2]), float(sys.argv[3])
    sweep(sys.argv[1], ((signal.SIGINT, int_s), (signal.SIGTERM, term_s), (signal.SIGKILL, 5.0)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
