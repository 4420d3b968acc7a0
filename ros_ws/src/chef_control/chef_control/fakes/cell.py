# SPDX-License-Identifier: Apache-2.0
"""All fakes of a real cell as processes, without a graph: for `./chef doctor` and tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chef_control.fakes import plan as plans

_STOP_S = 5.0


class FakeCell:
    """The fakes of a cell and the simulated world behind them, from `with` to the end of its block.

    `config` is the file that leads a cell's drivers to them, `environments` what a driver's process needs, by node.

    Args:
      path: of the real cell's config.
      physics: of the world.

    Raises:
      ValueError: the config is wrong, or a device has no fake.
    """

    def __init__(self, path: str | Path, physics: str = 'fast'):
        self._folder = tempfile.mkdtemp(prefix='chef-fakes-', dir='/tmp')   # short: a socket's path is in it
        self.socket = f'{self._folder}/world.sock'
        self._processes: list[subprocess.Popen] = []
        self.log = Path(self._folder) / 'log'
        try:
            plan = plans.plan(path, self._folder, self.socket)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.config, self.environments = plan.config, plan.environments
        self._commands = {'world': ('chef_sim.server', '--socket', self.socket, '--physics', physics), **plan.processes}

    def __enter__(self) -> FakeCell:
        self.log.touch()
        try:
            for words in self._commands.values():
                with self.log.open('ab') as log:
                    self._processes.append(subprocess.Popen(
                        [sys.executable, '-m', *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        env={**os.environ, 'OMP_NUM_THREADS': '1'}, start_new_session=True))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        end = time.monotonic() + _STOP_S
        for process in self._processes:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(_STOP_S)
        shutil.rmtree(self._folder, ignore_errors=True)
