# SPDX-License-Identifier: Apache-2.0
"""The rewards that labels are made of: the six of `chef_task.rewards`, and functions from Python files.

A function gets one Step as a dict and returns its reward, a number in [0, 1]:

    def red_high(step):
        return min(1.0, max(0.0, (step['red'][2] - 0.05) / 0.2))

| key | what it is |
|---|---|
| `red`, `green`, `blue`, `pinch` | positions [3], m, robot base frame; `pinch` is the point between the finger tips |
| `gripper` | position register, 0 open .. 255 closed |
| `grasp` | object-detection flag, `spaces.GRASP_*`: 1 none, 2 inward, 3 outward |
| `action`, `last_action` | float32 [5] in [-1, 1]; `action` is zero at the last Step |
| `samples` | stream name to its sample, field name to array, as in `spaces.STREAMS`, which has the units |
| `rewards` | the six rewards of this state, task name to float |
| `index`, `time_s`, `last` | number of the Step, s since the first one, whether it is the episode's last |

The six come first, in their order; a function with the name of one of them takes its place. At a Step with a
sample that is not finite (a sensor fault) no function is called, and the label is NaN.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

import chef_task
from chef_task import observation
from chef_task.bag.errors import BagError
from chef_task.bag.reader import Episode, recompute_rewards
from chef_task.messages import Sample
from chef_task.records import StepRecord
from chef_task.rewards import TASKS
from chef_task.spaces import OBJECTS, STREAMS

# what the six are computed with, beside the samples
_CODE = ('rewards.py', 'observation.py', 'geometry.py', 'spaces.py')


class RewardError(BagError):
    """A reward function cannot be loaded, raised, or returned what is no reward."""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class RewardTask:
    """One reward from a file: `text` is the whole file, and what `function` was compiled from."""

    name: str
    file: str
    text: str
    function: Callable[[dict], float]

    @classmethod
    def load(cls, spec: str) -> RewardTask:
        """From 'FILE.py:function'; the file may import what is installed, but not its neighbours.

        Raises:
          RewardError: one line that says what is wrong with the words, the file or the function.
        """
        file, colon, name = spec.rpartition(':')
        if not colon or not file.endswith('.py') or not name.isidentifier():
            raise RewardError(f'task {spec!r} is not of the form FILE.py:function')
        try:
            text = Path(file).read_text(encoding='utf-8')
        except (OSError, ValueError) as e:
            raise RewardError(f'{file}: cannot be read: {getattr(e, "strerror", None) or e}') from None
        module = ModuleType(f'chef_reward_task_{_sha256(text)[:16]}')
        module.__file__ = file
        sys.modules[module.__name__] = module       # dataclasses and the like look it up
        try:
            # the text that is stored, not what an import would read again or find in a cache
            exec(compile(text, file, 'exec', dont_inherit=True), module.__dict__)
        except (Exception, SystemExit) as e:
            raise RewardError(f'{file}: importing it failed: {_cause(e, file)}') from e
        function = getattr(module, name, None)
        if not callable(function):
            raise RewardError(f'{file}: has no function {name!r}')
        return cls(name, Path(file).name, text, function)

    def __call__(self, step: dict, where: str) -> float:
        """The checked reward; RewardError naming the file, `where` and what was wrong."""
        try:
            value = self.function(step)
        except BagError:        # from `samples`: the bag is at fault, not the function
            raise
        except (Exception, SystemExit) as e:
            raise RewardError(f'{self.file}:{self.name}: {where}: {_cause(e, self.file)}') from e
        fault = _fault(value)
        if fault:
            raise RewardError(f'{self.file}:{self.name}: {where}: returned {fault}, '
                              'expected one number in [0, 1]')
        return float(value)


def _cause(e: BaseException, file: str) -> str:
    text = f'{type(e).__name__}: {" ".join(str(e).split())}'
    lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if Path(f.filename).name == Path(file).name]
    return f'{text} (line {lines[-1]})' if lines else text


def _fault(value: object) -> str:
    """What is wrong with a returned value; empty if nothing is."""
    if isinstance(value, np.ndarray):
        if value.ndim or value.dtype.kind not in 'biuf':
            return f'an array of {value.dtype}, shape {list(value.shape)}'
    elif not isinstance(value, (int, float, np.bool_, np.integer, np.floating)):
        return 'nothing' if value is None else f'a {type(value).__name__}'
    return '' if 0 <= value <= 1 else f'{value!s:.40}'


def definition_of(tasks: list[dict], code: dict[str, str]) -> str:
    """One hash of the tasks' names and sources, in order, and of the code they share."""
    return _sha256(json.dumps([[[t['name'], t['sha256']] for t in tasks], sorted(code.items())]))


@dataclass(frozen=True)
class RewardSet:
    """All rewards of one version of labels: the six, then functions of one's own.

    Raises (when made): RewardError, two functions have the same name.
    """

    own: tuple[RewardTask, ...] = ()

    def __post_init__(self):
        names = [t.name for t in self.own]
        for name in names:
            if names.count(name) > 1:
                raise RewardError(f'two tasks are called {name!r}')

    @classmethod
    def load(cls, specs: Sequence[str] = ()) -> RewardSet:
        """The six and the functions 'FILE.py:function'; RewardError as `RewardTask.load`."""
        return cls(tuple(RewardTask.load(s) for s in specs))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names, in the order of the columns of `compute`."""
        return (*TASKS, *(t.name for t in self.own if t.name not in TASKS))

    def describe(self) -> dict:
        """What tells these rewards from others, as JSON: names, where each is from, and all source texts.

        `definition` is one hash of all that matters: two sets with the same give the same rewards.
        """
        folder = Path(chef_task.__file__).parent
        code = {name: (folder / name).read_text(encoding='utf-8') for name in _CODE}
        own = {t.name: t for t in self.own}
        tasks = [{'name': n, 'file': own[n].file, 'sha256': _sha256(own[n].text)} if n in own else
                 {'name': n, 'file': 'chef_task/rewards.py', 'sha256': _sha256(code['rewards.py'])}
                 for n in self.tasks]
        hashes = {f'chef_task/{name}': _sha256(text) for name, text in code.items()}
        return {'tasks': tasks, 'code': hashes, 'definition': definition_of(tasks, hashes),
                'sources': {_sha256(text): text for text in (*code.values(), *(t.text for t in self.own))}}

    def default_name(self) -> str:
        """A name for the version that another definition does not get: `red_high-1f2e3d4c`."""
        return f'{self.own[-1].name if self.own else "rewards"}-{self.describe()["definition"][:8]}'

    def compute(self, episode: Episode) -> np.ndarray:
        """Rewards of all Steps, float32 [N, tasks]; NaN where a sample is not finite (a sensor fault).

        Raises:
          BagError: the bag is damaged or has no Steps.
          RewardError: a function raised or returned what is no reward.
        """
        with np.errstate(invalid='ignore'):
            six = recompute_rewards(episode)
        six[~np.isfinite(six).all(1)] = np.nan
        out = np.full((len(six), len(self.tasks)), np.nan, np.float32)
        out[:, :len(TASKS)] = six
        columns = [self.tasks.index(t.name) for t in self.own]
        for i, view in enumerate(_views(episode, six) if self.own else ()):
            for task, column in zip(self.own, columns):
                out[i, column] = np.nan if view is None else task(dict(view), f'{episode.path}: step {i}')
        return out


def _views(episode: Episode, six: np.ndarray) -> Iterator[dict | None]:
    """What a reward function is given, a Step after the other; None where a sample is not finite."""
    streams = tuple(n for n, s in STREAMS.items() if not s.is_image and episode.has(n))
    start = episode.steps()[0].stamp
    for (step, samples), rewards in zip(episode.iterate(streams), six):
        if not all(np.isfinite(v).all() for sample in samples.values() for v in sample.values()):
            yield None
            continue
        x = observation.reward_inputs(samples)
        poses = samples['objects']['poses']
        yield {
            **{colour: _frozen(poses[i, :3]) for i, colour in enumerate(OBJECTS)}, 'pinch': _frozen(x.pinch),
            'gripper': float(x.gripper), 'grasp': int(x.grasp),
            'action': _frozen(step.action), 'last_action': _frozen(step.last_action),
            'samples': _Samples(episode, step), 'rewards': dict(zip(TASKS, rewards.tolist())),
            'index': step.index, 'time_s': (step.stamp - start) / 1e9, 'last': step.last}


def _frozen(array: np.ndarray) -> np.ndarray:
    # what a function changes by mistake must not reach the next one
    array = array.copy()
    array.flags.writeable = False
    return array


class _Samples(Mapping):
    """The samples of a Step by stream, decoded when they are asked for: images are rarely."""

    def __init__(self, episode: Episode, step: StepRecord):
        self._episode, self._step = episode, step

    def __getitem__(self, stream: str) -> Sample:
        if stream not in self._step.stamps:
            raise KeyError(stream)
        return self._episode.samples(self._step, (stream,))[stream]

    def __iter__(self) -> Iterator[str]:
        return iter(self._step.stamps)

    def __len__(self) -> int:
        return len(self._step.stamps)
