# SPDX-License-Identifier: Apache-2.0
"""One worker of a fleet: a process with a simulated cell that runs the episodes it is ordered to, one at a time."""

from __future__ import annotations

import importlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chef_learning import policy_files
from chef_learning.acting import Acting, version_of
from chef_learning.policy import NetworkPolicy, Policy, PolicyError, RandomPolicy, load_policy
from chef_learning.schedule import SlotScheduler
from chef_learning.scripted import ScriptedPolicy
from chef_task import __version__, episode_file
from chef_task.episode_file import episode_id
from chef_task.errors import OneLineError
from chef_task.records import EpisodeRecord, StepRecord
from chef_task.rewards import TASKS

# By name: a learner's machine need not have the robot's side.
CELL = 'chef_control.simulated_cell:SimulatedCell'
LEARNER = 'learner'     # the policy that follows what is learned beside
_SCENES = 10            # tried for an episode whose reset fails
_CELL_NAME = 'simulated'


@dataclass(frozen=True)
class Job:
    """What all episodes of a fleet have in common.

    Args:
      folder: of the run; episodes go to `episodes/` in it, versions are in `policies/`.
      cell: file with the cell's configuration.
      policy: random, scripted, learner (the newest version before every episode), the folder of a version, or
        module:Class.
      seed: with an episode's number and the policy it makes the episode.
      steps: control steps of an episode, at most.
      evaluate: act for the main task only, by the mean of its policy; or for `task`, if that is given.
      name: what the ids of its episodes begin with.
    """

    folder: Path
    cell: Path
    policy: str
    triplet: int
    physics: str
    observation: str
    seed: int
    steps: int
    reset: str
    evaluate: bool = False
    task: str = ''
    name: str = 'sim'


@dataclass(frozen=True)
class Order:
    """One episode to run.

    Args:
      schedule: the table of SAC-Q and the episodes it is of, None: it is empty.
      policy: another than the job's.
      scene: which of the job's scenes it starts from, None: the one with its number. Those of a trial that several
        policies undergo are the same.
    """

    number: int
    schedule: tuple[dict, int] | None = None
    policy: str = ''
    scene: int | None = None


@dataclass(frozen=True)
class Done:
    """What came of an order. chosen, returns: see `SlotScheduler.outcome`. warning: a line worth telling."""

    number: int
    record: EpisodeRecord
    chosen: list[int] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    warning: str = ''


@dataclass(frozen=True)
class Failed:
    """The worker cannot go on. usage: it was asked for something that does not exist."""

    text: str
    usage: bool = False


def main(pipe, job: Job) -> None:
    """Runs orders from `pipe` until it is closed or None comes; answers each with Done, or with Failed and ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # a Ctrl-C is the fleet's, which ends its workers
    try:
        worker = Worker(job)
        while (order := pipe.recv()) is not None:
            pipe.send(worker.run(order))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass            # the fleet is gone
    except (OneLineError, ValueError) as e:
        pipe.send(Failed(str(e), usage=True))
    except OSError as e:
        pipe.send(Failed(f'{e.filename or job.folder}: {e.strerror or e}'))
    except Exception as e:      # a policy of the user's may raise anything
        pipe.send(Failed(f'{type(e).__name__}: {" ".join(str(e).split())}'))


class Worker:
    """A cell and its policy."""

    def __init__(self, job: Job):
        self.job = job
        self._policies = Policies(job)
        self._policies.get(0, None)     # a wrong name should be told before anything is simulated
        module, name = CELL.split(':')
        cell_class = getattr(importlib.import_module(module), name)
        config = importlib.import_module('chef_task.cell').CellConfig.load(job.cell)
        self._cell = cell_class(config, physics=job.physics, observation=job.observation, triplet=job.triplet,
                                reset=job.reset)
        self._metadata = {'limits': config.limits.to_dict(), 'software': {'chef': __version__, **self._cell.software},
                          'observation': job.observation, 'physics': job.physics, 'lockstep': True,
                          'max_steps': job.steps, 'reset': job.reset, 'fleet_seed': job.seed}

    def run(self, order: Order) -> Done:
        """One episode, and its file: a function of the job's seed, the number and the policy."""
        job, steps, features, samples = self.job, [], [], []
        name = episode_id(order.number, job.name)
        scene = self._reset(order)
        policy, warning = self._policies.get(_seed(job.seed, order.number, 0), order.schedule, order.policy)
        acting = Acting(policy, job.observation)

        def on_step(step: StepRecord, seen: dict) -> None:
            steps.append(step)
            features.append(seen)
            samples.append(dict(self._cell.samples))
        out = self._cell.run(name, job.steps, acting, on_step)
        chosen, tails = policy.scheduler.outcome() if isinstance(policy, NetworkPolicy) else ([], [])
        if not isinstance(policy, NetworkPolicy):   # whose table is the fleet's
            acting.end()
        record = EpisodeRecord(
            episode_id=name, cell=_CELL_NAME, triplet=job.triplet, seed=scene, tasks=TASKS,
            policy_version=out.policy_version or version_of(policy), steps=out.steps, termination_reason=out.reason,
            success=out.success, peak_force_n=float(out.peak_force_n), returns=tuple(map(float, out.returns)),
            start_ns=steps[0].stamp, end_ns=out.end_ns, metadata={**self._metadata, 'chosen': chosen})
        path = job.folder / 'episodes' / (name + episode_file.SUFFIX)
        episode_file.write(path, record, job.observation, steps, features, samples)
        return Done(order.number, record, chosen, tails, warning)

    def _reset(self, order: Order) -> int:
        """Returns the seed of the scene: the first of the episode's that can be placed."""
        number = order.number if order.scene is None else order.scene
        for attempt in range(_SCENES):
            scene = scene_seed(self.job.seed, number, attempt)
            try:
                self._cell.reset(self.job.triplet, scene)
                return scene
            except OneLineError as e:
                error = e
        raise RuntimeError(f'scene {number}: {_SCENES} scenes could not be reset, the last: {error}')


class Policies:
    """The policy of each episode, by the name of a job."""

    def __init__(self, job: Job):
        self._job, self._folder = job, job.folder / 'policies'
        self._loaded: NetworkPolicy | None = None
        self._from: Path | None = None

    def get(self, seed: int, schedule: tuple[dict, int] | None, other: str = '') -> tuple[Policy, str]:
        """The policy of the next episode, as one that is made with `seed`, and a warning or ''.

        Args:
          other: than the job's.

        Raises:
          PolicyError: there is no such policy, or it does not act from this observation.
        """
        spec, warning = other or self._job.policy, ''
        if spec == 'random':
            return RandomPolicy(seed), ''
        if spec == 'scripted':
            return ScriptedPolicy(seed), ''
        if spec == LEARNER:
            there = policy_files.versions(self._folder)
            if not there:
                return RandomPolicy(seed, policy_files.NO_VERSION), ''
            folder = there[-1]
        elif ':' in spec and not os.path.isdir(spec):
            return self._check(load_policy(spec, self._folder, seed)), ''
        else:
            folder = Path(spec)
        if folder != self._from:
            try:
                self._loaded = self._load(folder)
            except PolicyError as e:
                if self._loaded is None or spec != LEARNER:
                    raise
                warning = f'{e}; going on with {self._loaded.version}'
            self._from = folder
        self._loaded.reseed(seed)
        if isinstance(self._loaded.scheduler, SlotScheduler):
            self._loaded.scheduler.table, self._loaded.scheduler.episodes = schedule or ({}, 0)
        return self._loaded, warning

    def _load(self, folder: Path) -> NetworkPolicy:
        if not folder.is_dir():
            raise PolicyError(f'policy {str(folder)!r} is none of random, scripted, learner, module:Class, or the '
                              'folder of a version')
        return self._check(NetworkPolicy.load(folder, 0, self._job.evaluate, task=self._job.task))

    def _check(self, policy: Any) -> Any:
        wants = getattr(policy, 'observation', self._job.observation)
        if wants != self._job.observation:
            raise PolicyError(f'policy {version_of(policy)} acts from {wants}, this cell offers '
                              f'{self._job.observation}')
        return policy


def scene_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Of a job's scene with this number, when `attempt` others could not be placed."""
    return _seed(seed, number, 1 + attempt) >> 1


def _seed(seed: int, number: int, use: int) -> int:
    return int(np.random.SeedSequence([seed, number, use]).generate_state(1)[0])
