# SPDX-License-Identifier: Apache-2.0
"""Where candidates train: processes of this machine, or of a Ray cluster (`ray_executor`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Protocol

END_S = 60.0        # s, for a candidate to save what it has learned
MODULE = 'chef_learning.experiment.candidate'


class Ended(NamedTuple):
    """A candidate's process that ended: its exit code, negative where a signal killed it; where: '', or on which machine."""

    folder: Path
    code: int
    where: str = ''


class Executor(Protocol):
    """Runs `python -m chef_learning.experiment.candidate FOLDER`, several at a time."""

    def start(self, folder: Path) -> None:
        """Begins to train a candidate, or goes on with it; ExperimentError if it cannot."""

    def ended(self) -> list[Ended]:
        """Those that have ended since the last call."""

    def close(self) -> None:
        """Lets all save what they have learned, and ends them; in bounded time."""


class Local:
    """Processes of this machine. cpus: threads of each."""

    def __init__(self, cpus: float = 1.0):
        self._threads, self._running = threads(cpus), {}

    def start(self, folder: Path) -> None:
        with open(folder / 'log.txt', 'ab') as log:
            self._running[folder] = subprocess.Popen(
                [sys.executable, '-m', MODULE, str(folder)], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, env={**os.environ, 'OMP_NUM_THREADS': self._threads})

    def ended(self) -> list[Ended]:
        out = [Ended(folder, process.returncode) for folder, process in self._running.items() if process.poll() is not None]
        for one in out:
            del self._running[one.folder]
        return out

    def close(self) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_S
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def threads(cpus: float) -> str:
    """For OMP_NUM_THREADS."""
    return str(max(1, int(cpus)))
