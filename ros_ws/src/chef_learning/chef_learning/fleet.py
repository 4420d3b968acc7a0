# SPDX-License-Identifier: Apache-2.0
"""A fleet of simulated cells: worker processes that fill a run with episodes, and the learner beside them.

Which episodes are there is all the state: numbers without a file are run. So what a stop or a crash left is gone on
with by the same call.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

from chef_learning import fleet_worker, policy_files
from chef_learning.fleet_learner import Beside
from chef_learning.fleet_report import Tally
from chef_learning.fleet_worker import LEARNER, Done, Failed, Job, Order
from chef_learning.policy_files import PolicyError
from chef_learning.schedule import SlotScheduler
from chef_task import episode_file
from chef_task.bag.disk import lock_writing
from chef_task.episode_file import episode_id

_LOOK_S = 0.2           # s, between two looks at who is alive
_JOIN_S = 5.0           # s, for a process to end before it is killed


class FleetError(Exception):
    """The fleet cannot go on; the text is one line. usage: it was asked for something that does not exist."""

    def __init__(self, text: str, usage: bool = False):
        super().__init__(text)
        self.usage = usage


class Fleet:
    """Runs `episodes` new episodes with `workers` processes.

    Args:
      beside: the learner in a process of its own, or None.
      plan: gives the order of an episode's number, where it is more than that; not with a policy that learns.
      say: called with every line for the user.
      stop: asked often; true ends the fleet at once, whole episodes stay.
    """

    def __init__(self, job: Job, episodes: int, workers: int, beside: Beside | None,
                 say: Callable[[str], None], stop: Callable[[], bool],
                 plan: Callable[[int], Order] | None = None):
        self._job, self._count, self._workers_wanted = job, episodes, min(workers, episodes)
        self._beside, self._say, self._stop, self._plan = beside, say, stop, plan or self._order
        self._tally = Tally()
        self._schedule = Schedule(job) if job.policy == LEARNER else None
        self._workers: dict[Connection, multiprocessing.process.BaseProcess] = {}

    def run(self) -> Tally:
        """Returns what was done.

        Raises:
          FleetError: a worker or the learner failed or died, or another fleet works in this run.
        """
        folder = self._job.folder / 'episodes'
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(self._job.folder / 'fleet.lock')
        self._sweep()
        try:
            if self._beside is not None:
                self._beside.start()
            self._start()
            self._serve(missing(folder, self._job.name))
        finally:
            self._end()
            os.close(lock)
        return self._tally

    def _start(self) -> None:
        context = multiprocessing.get_context('spawn')      # a fork would carry over threads' locks
        before = os.environ.get('OMP_NUM_THREADS')
        os.environ['OMP_NUM_THREADS'] = '1'                 # a worker is one core
        try:
            for _ in range(self._workers_wanted):
                ours, theirs = context.Pipe()
                process = context.Process(target=fleet_worker.main, args=(theirs, self._job), daemon=True)
                process.start()
                theirs.close()
                self._workers[ours] = process
        finally:
            if before is None:
                del os.environ['OMP_NUM_THREADS']
            else:
                os.environ['OMP_NUM_THREADS'] = before

    def _serve(self, numbers: Iterator[int]) -> None:
        idle, at_work = list(self._workers), set()
        left = self._count
        while (left or at_work) and not self._stop():
            while idle and left and self._may_act(len(at_work)):
                pipe = idle.pop()
                at_work.add(pipe)
                left -= 1
                self._send(pipe, self._plan(next(numbers)))
            for pipe in wait([*self._workers, *(p.sentinel for p in self._workers.values())], _LOOK_S):
                if pipe in self._workers and pipe in at_work:
                    self._take(pipe)
                    at_work.discard(pipe)
                    idle.append(pipe)
            self._check()
            for line in self._tally.due():
                self._say(line)

    def _order(self, number: int) -> Order:
        return Order(number, self._schedule.table() if self._schedule else None)

    def _may_act(self, at_work: int) -> bool:
        return self._beside is None or self._beside.may_act(self._tally.steps + at_work * self._job.steps)

    def _send(self, pipe: Connection, order: Order) -> None:
        try:
            pipe.send(order)
        except OSError:
            self._check()
            raise FleetError(self._died(self._workers[pipe])) from None

    def _take(self, pipe: Connection) -> None:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            self._workers[pipe].join(_JOIN_S)
            if self._stop():
                return
            raise FleetError(self._died(self._workers[pipe])) from None
        if isinstance(message, Failed):
            raise FleetError(message.text, message.usage)
        self._done(message)

    def _done(self, done: Done) -> None:
        self._tally.add(done.record)
        if done.warning:
            self._say(done.warning)
        if self._schedule:
            self._schedule.learn(done)
        if self._beside is not None:
            self._beside.acted(done.record.steps)

    def _check(self) -> None:
        """FleetError if somebody is dead, unless all were asked to end."""
        if self._stop():        # a signal to the whole group ends workers before the fleet does
            return
        for pipe, process in self._workers.items():
            if not process.is_alive():
                if pipe.poll():         # it said why
                    self._take(pipe)
                raise FleetError(self._died(process))
        if self._beside is not None:
            for line in self._beside.events():
                self._say(line)
            error = self._beside.error()
            if error:
                raise FleetError(*error)

    @staticmethod
    def _died(process) -> str:
        code = process.exitcode
        how = f'killed by signal {-code}' if code is not None and code < 0 else f'exit status {code}'
        return f'worker {process.pid} died ({how}); the episodes that were finished are kept'

    def _end(self) -> None:
        for pipe, process in self._workers.items():
            process.terminate()     # in mid-episode at worst: files are written beside their place
            pipe.close()
        deadline = time.monotonic() + _JOIN_S
        for process in self._workers.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._sweep()
        if self._beside is not None:
            for line in self._beside.end():
                self._say(line)

    def _sweep(self) -> None:
        """Removes what workers had begun to write."""
        for left in (self._job.folder / 'episodes').glob(f'.{self._job.name}_*{episode_file.SUFFIX}.partial'):
            left.unlink()


class Schedule:
    """SAC-Q's table, which all workers choose by and learn into; as each graph's cell keeps its own."""

    def __init__(self, job: Job):
        self._policies, self._seed = job.folder / 'policies', job.seed
        self._path = job.folder / 'schedule' / 'simulated.json'
        self._scheduler: SlotScheduler | None = None

    def _open(self) -> SlotScheduler | None:
        """None until there is a version that chooses among tasks."""
        if self._scheduler is None and (there := policy_files.versions(self._policies)):
            try:
                info = policy_files.read_info(there[-1])
            except PolicyError:     # workers go on with the one before
                return None
            if len(info.tasks) > 1:
                self._scheduler = SlotScheduler(len(info.tasks), info.schedule, self._seed, self._path)
        return self._scheduler

    def table(self) -> tuple[dict, int] | None:
        """For an `Order`."""
        scheduler = self._open()
        return (dict(scheduler.table), scheduler.episodes) if scheduler else None

    def learn(self, done: Done) -> None:
        """Of a whole episode whose tasks were chosen by the table."""
        if done.chosen and self._scheduler is not None:
            self._scheduler.learn(done.chosen, done.tails)


def missing(folder: Path, name: str = 'sim') -> Iterator[int]:
    """Numbers of episodes that are not there yet, from 0 on, without end."""
    there = {p.name for p in episode_file.find(folder)}
    number = 0
    while True:
        if episode_id(number, name) + episode_file.SUFFIX not in there:
            yield number
        number += 1


def _lock(path: Path) -> int:
    """A lock that the system releases when the process ends, however it ends."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if not lock_writing(fd):
        os.close(fd)
        raise FleetError(f'{path.parent}: another fleet works here', usage=True)
    return fd
