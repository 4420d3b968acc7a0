# SPDX-License-Identifier: Apache-2.0
"""Cells of the graph in a stage: graphs that it starts on this machine. Those elsewhere: `external`.

    <stage>/t1/episodes/<cell>/<episode id>/       the bags of a cell
    <stage>/t1/cells/<cell>/{launch.log, logs}     the run of a graph; episodes and policies are links to those of the stage
    <stage>/t1/policies                            of the learner beside, which every cell takes
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from chef_learning.experiment.folder import ExperimentError
from chef_learning.fleet_learner import Beside
from chef_task.bag.errors import BagError
from chef_task.bag.files import quick_summary
from chef_task.records import EpisodeRecord, Reason
from chef_task.storage_sync import BAG_MARK
from chef_task.whole_file import write_json

LOOK_S = 0.5
_TELL_S = 10.0
_TRIES = 3          # of a cell that ends badly without a further episode
STOP_S = 60.0      # for a graph to seal its bag and end
_PR_SET_PDEATHSIG = 1


class Tally:
    """Counts the bags below a folder, each looked at once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._known: dict[Path, EpisodeRecord | None] = {}

    def look(self) -> dict[Path, EpisodeRecord]:
        """The bags that are new since the last call."""
        new = {}
        for path in sorted(self._folder.glob(f'*/*/{BAG_MARK}')):
            bag = path.parent
            if bag in self._known or bag.name.startswith('.'):
                continue
            try:
                self._known[bag] = quick_summary(bag)
            except BagError:        # replay skips it, and says so
                self._known[bag] = None
                continue
            new[bag] = self._known[bag]
        return new

    def complete(self, cell: str = '') -> int:
        """Episodes that ended by themselves, of a cell or of all."""
        return sum(r is not None and whole(r) and cell in ('', bag.parent.name) for bag, r in self._known.items())


def whole(record: EpisodeRecord) -> bool:
    """Whether an episode ended by itself."""
    return Reason.of(record.termination_reason) in (Reason.TIME_LIMIT, Reason.FORCE_LIMIT)


class Graph:
    """`./chef launch collect.launch.py` of one cell, again and again until it has its episodes.

    Args:
      launch: the command that starts it, to which arguments are added.
      share: episodes that it should have.
      arguments: of the launch file, but for what differs from start to start.
    """

    def __init__(self, launch: Sequence[str], folder: Path, cell: str, share: int, seed: int,
                 arguments: Mapping[str, object]):
        self.cell, self.share = cell, share
        self._launch, self._seed, self._arguments = launch, seed, arguments
        self._run = folder / 'cells' / cell
        self._run.mkdir(parents=True, exist_ok=True)
        for name, target in (('episodes', folder / 'episodes' / cell), ('policies', folder / 'policies')):
            target.mkdir(parents=True, exist_ok=True)
            if not (self._run / name).is_symlink():
                (self._run / name).symlink_to(os.path.relpath(target, self._run), target_is_directory=True)
        self._process: subprocess.Popen | None = None
        self._had = self._failures = 0

    def had(self, tally: Tally) -> int:
        """Episodes that it has and that count."""
        return tally.complete(self.cell)

    def _more(self, had: int) -> dict[str, object]:
        """What differs from start to start."""
        # other scenes than before: those of the episodes that there are have been seen
        seed = int(np.random.SeedSequence([self._seed, had]).generate_state(1)[0]) >> 1
        return {'seed': seed, 'episodes': self.share - had}

    def poll(self, had: int) -> bool:
        """Starts it as often as needed; whether it has its episodes, of which there are `had`.

        Raises:
          ExperimentError: it ends badly, time and again.
        """
        if self._process is not None and self._process.poll() is None:
            return False
        if self._process is not None and self._process.returncode:
            self._failures = 1 if had > self._had else self._failures + 1
            if self._failures >= _TRIES:
                raise ExperimentError(f'{self.cell}: its graph ended with status {self._process.returncode} '
                                      f'{_TRIES} times in a row: see {self._run / "launch.log"}')
        self._process = None
        if had >= self.share:
            return True
        self._had = had
        words = {**self._arguments, 'output': self._run.resolve(), 'namespace': self.cell, **self._more(had)}
        with open(self._run / 'launch.log', 'ab') as log:
            self._process = subprocess.Popen(
                [*self._launch, *(f'{k}:={v}' for k, v in words.items())], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={k: v for k, v in os.environ.items() if k != 'ROS_DOMAIN_ID'},      # each takes one of its own
                start_new_session=True, preexec_fn=_end_with_us)
        return False

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait(self, end: float) -> None:
        """Until it has ended, or is made to."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()        # its nodes are ended by the launcher's guard
            self._process.wait()


class TrialGraph(Graph):
    """A graph that runs trials: number, policy and seed of the scene of each, in their order."""

    def __init__(self, launch: Sequence[str], folder: Path, cell: str, trials: Sequence[tuple[int, str, int]],
                 arguments: Mapping[str, object]):
        super().__init__(launch, folder, cell, len(trials), 0, arguments)
        self._numbers = {number for number, _, _ in trials}
        self._file = self._run / 'trials.json'
        write_json(self._file, {'trials': [{'number': n, 'policy': policy, 'seed': seed} for n, policy, seed in trials]})

    def had(self, tally: Tally) -> int:
        return len(self._numbers & trials_of(self._run).keys())

    def _more(self, had: int) -> dict[str, object]:
        return {'trials': self._file.resolve(), 'episodes': self.share}


def trials_of(run: Path) -> dict[int, Path]:
    """Number of a trial to its bag, of those that a cell has run."""
    # by name: a learner's machine need not have the robot's side
    done = importlib.import_module('chef_control.trial_list').read_done(run)
    return {number: bag for number, name in done.items() if (bag := run / 'episodes' / name).is_dir()}


def _end_with_us() -> None:
    """A stage that is killed cannot ask its graphs to stop: the kernel does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def run_graphs(folder: Path, graphs: Sequence[Graph], beside: Beside | None, say: Callable[[str], None],
               stop: Callable[[], bool]) -> bool:
    """Runs all of them until each has its episodes; whether they have. Errors as `Graph.poll`, and of the learner."""
    tally = Tally(folder / 'episodes')
    tally.look()
    wanted = sum(g.share for g in graphs)

    def done() -> bool:
        return all([g.poll(g.had(tally)) for g in graphs])    # all, so that each is started
    try:
        return watch(tally, wanted, done, beside, say, stop)
    finally:
        for g in graphs:
            g.ask_to_stop()
        end = time.monotonic() + STOP_S
        for g in graphs:
            g.wait(end)


def watch(tally: Tally, wanted: int, done: Callable[[], bool], beside: Beside | None, say: Callable[[str], None],
          stop: Callable[[], bool]) -> bool:
    """Tells the learner beside what came, and says how many episodes there are, until `done`; whether that was, or a stop."""
    told, told_at = -1, 0.0
    try:
        if beside is not None:
            beside.start()
        while not stop():
            for record in tally.look().values():
                if beside is not None:
                    beside.acted(record.steps)
            finished, now = done(), time.monotonic()
            if tally.complete() != told and (now - told_at > _TELL_S or finished):
                told, told_at = tally.complete(), now
                say(f'{told} of {wanted} episodes')
            if beside is not None:
                for line in beside.events():
                    say(line)
                if error := beside.error():
                    raise ExperimentError(error[0], error[1])
            if finished:
                return True
            time.sleep(LOOK_S)
        return False
    finally:
        if beside is not None:
            for line in beside.end():
                say(line)
