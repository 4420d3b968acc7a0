# SPDX-License-Identifier: Apache-2.0
"""Candidates on a Ray cluster: each a task that runs the very same process on some machine of it.

Every machine must see the experiment's folder, and this software, under the same path as here. Where a machine goes, its
candidates go on elsewhere from their checkpoints; where this process goes, Ray ends the tasks, and the next call goes on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from chef_learning.experiment.executors import END_S, MODULE, Ended, threads
from chef_learning.experiment.folder import ExperimentError

_TRIES = 10         # machines that may go under one candidate
_CONNECT_S = 60.0
LOCAL = 'local'


class OnRay:
    """An `executors.Executor`.

    Args:
      address: of a running cluster, host:port; 'auto': the one that this machine is of; 'local': one of its own, on this
        machine alone, for as long as this process lives.
      cpus, gpus: what a candidate takes of a machine.

    Raises:
      ExperimentError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str, cpus: float, gpus: float, say: Callable[[str], None]):
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
        try:
            import ray
        except ImportError:
            raise ExperimentError('Ray is not installed: pip install -r requirements/python.txt', usage=True) from None
        self._ray, self._say, self._cpus, self._gpus = ray, say, cpus, gpus
        self._tasks: dict[object, Path] = {}        # reference to folder
        self._tries: dict[Path, int] = {}
        own = {'include_dashboard': False} if address == LOCAL else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level='error', **own)
        except Exception as e:      # of a dozen kinds, and none of its own
            raise ExperimentError(f'Ray at {address}: {_line(e)}', usage=True) from None
        try:
            self._check_room()
        except BaseException:
            ray.shutdown()
            raise
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_runner())

    def _check_room(self) -> None:
        """ExperimentError if no machine could ever take a candidate: it would wait for ever."""
        nodes = [n['Resources'] for n in self._ray.nodes() if n['Alive']]
        if not any(n.get('CPU', 0) >= self._cpus and n.get('GPU', 0) >= self._gpus for n in nodes):
            raise ExperimentError(f'Ray: none of its {len(nodes)} machines has {self._cpus:g} processors and {self._gpus:g} GPUs '
                                  'for a candidate', usage=True)

    def start(self, folder: Path) -> None:
        here = folder.resolve()
        path = os.pathsep.join(os.path.abspath(p) for p in sys.path if p and os.path.isdir(p) and 'site-packages' not in p)
        self._tasks[self._task.remote([sys.executable, '-m', MODULE, str(here)], str(here / 'log.txt'), os.getcwd(), {
            'PYTHONPATH': path, 'OMP_NUM_THREADS': threads(self._cpus)}, END_S)] = folder

    def ended(self) -> list[Ended]:
        done, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0) if self._tasks else ([], [])
        out = []
        for reference in done:
            folder = self._tasks.pop(reference)
            try:
                code, where = self._ray.get(reference)
                out.append(Ended(folder, code, where))
            except self._ray.exceptions.RayError as e:
                out += self._again(folder, e)
        return out

    def _again(self, folder: Path, error: Exception) -> list[Ended]:
        """The machine, or Ray's process on it, is gone: the candidate goes on elsewhere."""
        self._tries[folder] = self._tries.get(folder, 0) + 1
        if self._tries[folder] >= _TRIES:
            return [Ended(folder, 1, f'lost {_TRIES} times; the last: {_line(error)}')]
        self._say(f'{folder.parent.name}/{folder.name}: where it learned is gone ({type(error).__name__}); it goes on elsewhere')
        self.start(folder)
        return []

    def close(self) -> None:
        for reference in self._tasks:
            self._ray.cancel(reference, force=False)
        deadline = time.monotonic() + END_S
        while self._tasks and time.monotonic() < deadline:
            done, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0.5)
            for reference in done:
                del self._tasks[reference]
        self._tasks.clear()
        self._ray.shutdown()


def _line(e: Exception) -> str:
    return ' '.join(str(e).split())[:300] or type(e).__name__


def _runner():
    """The task. It is sent by value, so that Ray's processes need nothing of this software."""
    def run(command: list[str], log: str, folder: str, variables: dict[str, str], end_s: float) -> tuple[int, str]:
        import os
        import signal
        import socket
        import subprocess
        import sys
        import time

        import ray
        where = f'{socket.gethostname()}, node {ray.get_runtime_context().get_node_id()[:8]}'
        if not os.path.exists(command[0]):
            command = [sys.executable, *command[1:]]
        with open(log, 'ab') as out:
            out.write(f'on {where}\n'.encode())
            out.flush()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                       cwd=folder if os.path.isdir(folder) else None, env={**os.environ, **variables})
        try:
            while process.poll() is None:
                time.sleep(0.1)
        except BaseException:       # it was cancelled: what was learned is saved first
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(end_s)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        return process.returncode, where
    return run
