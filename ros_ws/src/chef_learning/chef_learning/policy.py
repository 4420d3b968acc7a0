# SPDX-License-Identifier: Apache-2.0
"""Policies that act, and how a name becomes one. Torch is imported only once a network is loaded."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from chef_learning.noise import ColoredNoise
from chef_learning.policy_files import NO_VERSION, PolicyError, read_info, read_tensors, versions
from chef_learning.schedule import FixedScheduler, SlotScheduler
from chef_learning.tasks import COMPOSITE
from chef_task.rewards import MAIN_TASK, TASKS
from chef_task.spaces import ACTION_SIZE

Observation = Mapping[str, np.ndarray]
MAIN = TASKS.index(MAIN_TASK)


@runtime_checkable
class Policy(Protocol):
    """What acts. `act` gets stacked features (see chef_task.observation.History), returns [5] in [-1, 1].

    Optional attributes: `version` (text), `task` (index of the task that the last action was for),
    `needs_objects` (true: give it object poses even where it acts from pixels; for simulation and
    ablations), `observation` ('pixels' or 'state', if it can act from one of them only). Optional methods:
    `reward(value)`, told after every step with the main task's reward of the state that its action led to, and
    `end()`, told after an episode that no fault ended.
    """

    def reset(self) -> None:
        """Before an episode's first step."""

    def act(self, observation: Observation) -> np.ndarray: ...


class RandomPolicy:
    """Uniform in [-1, 1] at every step, but not anew at every step: that would only shake on the spot.

    Each dimension keeps its value and is redrawn with probability 0.1 a step, independently: half a second
    on average, and a correlation of 0.9^k over k steps.
    """

    def __init__(self, seed: int = 0, version: str = 'random'):
        self.version, self.task = version, MAIN
        self._rng = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        self._action = self._draw()

    def act(self, observation: Observation) -> np.ndarray:
        action = self._action
        redraw = self._rng.random(ACTION_SIZE) < 0.1
        self._action = np.where(redraw, self._draw(), action)
        return action

    def _draw(self) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, ACTION_SIZE).astype(np.float32)


class NetworkPolicy:
    """A trained actor; samples from the distribution of the task that its scheduler chose, or takes its mean.

    Attributes: version, observation ('pixels' or 'state'), haptics, tasks (names, one a head), task (of the last
    action, an index of the cell's tasks and not of the heads, which may be fewer), scheduler.
    """

    def __init__(self, actor, info, scheduler, seed: int = 0, greedy: bool = False):
        self.version, self.observation, self.haptics = info.version, info.observation, info.haptics
        self.tasks, self._recorded = info.tasks, [_recorded_as(t, k) for k, t in enumerate(info.tasks)]
        self.task = self._recorded[0]
        self._actor, self.scheduler, self._step = actor, scheduler, 0
        self._color, self._greedy = info.schedule.noise, greedy
        # A gripper takes a dozen steps to close, and is worth nothing before: a policy that gave up closing would
        # never see again what it is for.
        self._floor = 0.0 if greedy else info.schedule.gripper_floor
        self._hold, self._gripper = info.schedule.gripper_hold, -1.0
        self._sizes = actor.gaussians + actor.categorical
        self._start(seed)

    def _start(self, seed: int) -> None:
        self._noise = ColoredNoise(self._color, self._sizes, np.random.default_rng(seed))

    @classmethod
    def load(cls, folder: str | Path, seed: int = 0, evaluate: bool = False,
             schedule_file: str | Path | None = None, task: str = '') -> NetworkPolicy:
        """From a version's folder.

        Args:
          seed: of the sampled actions and of the schedule.
          evaluate: act for the main task only, by the mean of its policy; else the version's scheduler chooses tasks.
          schedule_file: where the scheduler keeps what it has learned, see `schedule.SlotScheduler`.
          task: evaluate this one instead of the main task.

        Raises:
          PolicyError: missing, truncated, damaged, or of other networks than this software's.
        """
        info = read_info(folder)
        wanted, evaluate = (task or MAIN_TASK, COMPOSITE), evaluate or bool(task)
        main = next((k for k, t in enumerate(info.tasks) if t in wanted), None)
        if evaluate and main is None:
            raise PolicyError(f'{folder}: has no head for {wanted[0]}')
        import torch
        torch.set_num_threads(1)     # more threads fight over the cores with the other nodes
        from chef_learning.domain import rgb_stacking
        from chef_learning.networks import Actor
        tensors = read_tensors(folder, info)
        shape = (info.network, rgb_stacking(info.observation, info.haptics, info.tasks))
        try:
            with torch.device('meta'):      # without memory: a damaged policy.json may name any size
                Actor(*shape).load_state_dict(tensors, assign=True)
            actor = Actor(*shape)
            actor.load_state_dict(tensors)
        except RuntimeError as e:
            cause = str(e).splitlines()[:2][-1].strip()      # the first line only says what failed
            raise PolicyError(f'{folder}: its tensors do not fit: {cause}') from None
        try:
            if evaluate or len(info.tasks) == 1:    # of one there is nothing to choose, and a table of six stays
                scheduler = FixedScheduler(main if evaluate else 0)
            else:
                scheduler = SlotScheduler(len(info.tasks), info.schedule, seed + 1, schedule_file)
        except ValueError as e:
            raise PolicyError(str(e)) from None
        policy = cls(actor.eval(), info, scheduler, seed, greedy=evaluate)
        policy._warm_up()
        return policy

    def _warm_up(self) -> None:
        # the first pass allocates and picks kernels: not within an episode's first tick
        from chef_task.observation import fields_of
        zeros = {k: np.zeros(f.shape if f.dtype == 'uint8' else (f.history, *f.shape), f.dtype)
                 for k, f in fields_of(self.observation, self.haptics).items()}
        for _ in range(2):
            self._distribution(zeros, 0)

    def reseed(self, seed: int) -> None:
        """Acts and chooses from here on as one that was loaded with this seed."""
        self._start(seed)
        self.scheduler.reseed(seed + 1)

    def reset(self) -> None:
        self.scheduler.reset()
        self._noise.reset()
        self._step = 0

    def reward(self, value: float) -> None:
        """The main task's reward of the state that the last action led to."""
        self.scheduler.reward(value)

    def end(self) -> None:
        """The episode ended as it should: the scheduler may learn from it."""
        self.scheduler.end()

    def act(self, observation: Observation) -> np.ndarray:
        step, head = self._step, self.scheduler.task(self._step)
        self.task = self._recorded[head]
        self._step += 1
        mean, std, closing = self._distribution(observation, head)
        noise = np.zeros(self._sizes) if self._greedy else self._noise.step()
        action = mean + std * noise[:len(mean)]
        if closing is not None:
            if step % self._hold == 0:
                uniform = 0.5 * (1.0 + math.erf(noise[-1] / math.sqrt(2.0)))   # 0.5 without noise
                closing = min(max(closing, self._floor), 1.0 - self._floor)
                self._gripper = 1.0 if uniform < closing else -1.0
            action = np.append(action, self._gripper)
        return action.astype(np.float32)

    def _distribution(self, observation: Observation, head: int) -> tuple[np.ndarray, np.ndarray, float | None]:
        """mean [C], std [C], and the probability of closing a categorical gripper or None."""
        import torch
        with torch.inference_mode():
            batch = {k: _tensor(v)[None] for k, v in observation.items()}
            p = self._actor(batch)
            closing = None if p.logits is None else float(torch.softmax(p.logits[head, 0], -1)[1])
        return p.mean[head, 0].numpy(), p.std[head, 0].numpy(), closing


def _recorded_as(task: str, head: int) -> int:
    """Index of the task that a Step names: of the cell's, or the head's where it is of labels only."""
    return MAIN if task == COMPOSITE else TASKS.index(task) if task in TASKS else head


def _tensor(array: np.ndarray):
    import torch
    # torch warns about arrays it may not write to, such as images that lie in a message
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def load_policy(spec: str, policies_dir: str | Path, seed: int = 0, evaluate: bool = False,
                schedule_file: str | Path | None = None, task: str = '') -> Policy:
    """The policy that a name stands for.

    Args:
      spec: 'random'; 'latest', the newest version in policies_dir, or random as `v000000` until there is
        one; 'module:Class', made with `seed=` if it takes it; or the folder of a version.
      evaluate: act for the main task only.
      schedule_file: where a network's scheduler keeps what it has learned.
      task: evaluate this one instead of the main task.

    Raises:
      PolicyError: one line that says what is wrong with the name, the class or the files.
    """
    if spec == 'random':
        return RandomPolicy(seed)
    if spec == 'latest':
        there = versions(policies_dir)
        return NetworkPolicy.load(there[-1], seed, evaluate, schedule_file, task) if there else RandomPolicy(seed, NO_VERSION)
    if re.fullmatch(r'[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*', spec):
        return _load_class(spec, seed)
    if spec and '\0' not in spec and Path(spec).is_dir():
        return NetworkPolicy.load(spec, seed, evaluate, schedule_file, task)
    raise PolicyError(f'policy {spec!r} is none of latest, random, module:Class, or the folder of a version')


def _load_class(spec: str, seed: int) -> Policy:
    module_name, class_name = spec.split(':')
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())     # a console script does not look where it was started
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        raise PolicyError(f'policy {spec}: no module {e.name!r}; is its folder on PYTHONPATH?') from None
    except Exception as e:     # whatever the user's module raises while it is imported
        raise PolicyError(f'policy {spec}: importing {module_name} failed: {error_text(e)}') from e
    cls = getattr(module, class_name, None)
    if not inspect.isclass(cls):
        raise PolicyError(f'policy {spec}: {module_name} has no class {class_name!r}')
    for method in ('reset', 'act'):
        if not callable(getattr(cls, method, None)):
            raise PolicyError(f'policy {spec}: {class_name} has no method {method!r}')
    try:
        takes_seed = 'seed' in inspect.signature(cls).parameters
        return cls(seed=seed) if takes_seed else cls()
    except Exception as e:
        raise PolicyError(f'policy {spec}: making a {class_name} failed: {error_text(e)}') from e


def error_text(e: Exception) -> str:
    """What a user's code raised, on one line."""
    return f'{type(e).__name__}: ' + ' '.join(str(e).split())
