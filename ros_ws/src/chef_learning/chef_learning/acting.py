# SPDX-License-Identifier: Apache-2.0
"""What the policy node does, without ROS: picks the policy of an episode and answers its ticks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chef_learning.policy import MAIN, Policy, PolicyError, error_text, load_policy
from chef_learning.policy_files import versions
from chef_task.messages import decode
from chef_task.observation import FIELDS, History, features
from chef_task.rewards import TASKS
from chef_task.spaces import ACTION_SIZE, check_action, streams_of

# Ticks name samples of the last control period; older ones are kept for a graph that is late.
KEEP_NS = 2_000_000_000


class SampleCache:
    """The messages of one stream of the last two seconds, by capture stamp in ns.

    They are decoded when a tick names them: of a 100 Hz stream that is every fifth.
    """

    def __init__(self):
        self._messages: OrderedDict[int, Any] = OrderedDict()

    def __contains__(self, stamp: int) -> bool:
        return stamp in self._messages

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, stamp: int, message: Any) -> None:
        self._messages[stamp] = message
        while next(iter(self._messages)) < stamp - KEEP_NS:
            self._messages.popitem(last=False)

    def get(self, stamp: int) -> Any:
        return self._messages[stamp]


@dataclass(frozen=True)
class Answer:
    """To one tick. action: float32 [5], NaN where the policy failed, for the reason in `error`."""

    episode_id: str
    index: int
    stamp: int
    action: np.ndarray
    task: int
    version: str
    inference_ms: float
    error: str = ''


@dataclass(frozen=True)
class _Pending:
    episode_id: str
    index: int
    stamp: int
    stamps: Mapping[str, int]
    last_action: np.ndarray


class Acting:
    """A policy within an episode: the features of a tick become its observation, what it returns is checked.

    Args:
      observation: 'pixels' or 'state', of the cell.

    Attributes:
      version: of the policy, one an episode; from `start` on.
      needs_objects: whether the features must hold the objects' poses.
    """

    def __init__(self, policy: Policy, observation: str):
        self._policy = policy
        self._history = History(observation, getattr(policy, 'haptics', True))
        self.needs_objects = observation == 'state' or bool(getattr(policy, 'needs_objects', False))
        if self.needs_objects:
            self._history.fields = {**self._history.fields, **{k: f for k, f in FIELDS.items() if f.group == 'objects'}}
        self.version = ''

    def start(self) -> None:
        """Before the first tick; whatever the policy's `reset` raises comes through."""
        self._history.reset()
        self._policy.reset()
        self.version = version_of(self._policy)

    def act(self, step: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
        """(action float32 [5], task) for the features of a tick.

        Raises:
          ValueError: the policy's action or its task is none; whatever else it raises comes through.
        """
        action = check_action(self._policy.act(self._history.push(step)))
        task = int(getattr(self._policy, 'task', MAIN))
        if not 0 <= task < len(TASKS):
            raise ValueError(f'task {task} does not exist')
        return action, task

    def reward(self, value: float) -> None:
        """The main task's reward of the state that the last action led to, for a policy that wants to know."""
        if hasattr(self._policy, 'reward'):
            self._policy.reward(value)

    def end(self) -> None:
        """The episode ended as it should, not by a fault."""
        if hasattr(self._policy, 'end'):
            self._policy.end()


class TickResponder:
    """Builds the observation from exactly the samples that a tick names, and lets the policy act on it.

    Nothing here waits: `tick` and `sample` return the answer if all it needs is there, else None, and the
    sample that was missing brings it. A newer tick replaces one that is still waiting.

    Args:
      observation: 'pixels' or 'state', of the cell.
      decode: (stream, message) to sample; for messages that are kept serialised.
    """

    def __init__(self, observation: str, decode: Callable[[str, Any], Any] = decode):
        self.observation = observation
        self._decode = decode
        self.streams = streams_of(observation)
        self._caches = {name: SampleCache() for name in self.streams}
        self._pending: _Pending | None = None
        self._missing: set[str] = set()
        self._acting: Acting | None = None
        self._episode = ''

    @property
    def waiting(self) -> bool:
        """Whether a tick names samples that have not come yet."""
        return self._pending is not None

    @property
    def running(self) -> bool:
        """Whether an episode is under way."""
        return self._acting is not None

    def start(self, policy: Policy, episode_id: str) -> None:
        """Prepares for an episode's first tick; whatever `policy.reset` raises comes through."""
        self.end()
        acting = Acting(policy, self.observation)
        self._needed = {s for s in self.streams if acting.needs_objects or s != 'objects'}
        acting.start()
        self._acting, self._episode = acting, episode_id

    def step(self, episode_id: str, index: int, main_reward: float) -> None:
        """A Step was recorded: a policy that learns from its episodes hears what its last action led to."""
        if episode_id == self._episode and index > 0 and self._acting is not None:
            self._acting.reward(main_reward)

    def end(self, whole: bool = False) -> None:
        """No tick is answered until the next `start`. whole: the episode ended as it should, not by a fault."""
        if whole and self._acting is not None:
            self._acting.end()
        self._acting, self._pending, self._episode = None, None, ''

    def sample(self, stream: str, stamp: int, message: Any) -> Answer | None:
        """A sensor message, live or from a bag, with its capture stamp in ns."""
        self._caches[stream].add(stamp, message)
        if self._pending is None or self._pending.stamps.get(stream) != stamp:
            return None
        self._missing.discard(stream)
        return None if self._missing else self._answer()

    def tick(self, episode_id: str, index: int, stamp: int, stamps: Mapping[str, int],
             last_action: np.ndarray) -> Answer | None:
        """A tick: stream to stamp of the sample used, ns, and the action of the tick before, [5]."""
        if self._acting is None or episode_id != self._episode:
            return None
        absent = self._needed - set(stamps)
        named = {s: stamps[s] for s in self._needed - absent}
        self._pending = _Pending(episode_id, index, stamp, named, last_action)
        if absent:
            return self._failed(f'the tick names no {", ".join(sorted(absent))}')
        self._missing = {s for s, at in named.items() if at not in self._caches[s]}
        return None if self._missing else self._answer()

    def _answer(self) -> Answer:
        start = time.perf_counter()
        tick, self._pending = self._pending, None
        try:
            samples = {s: self._decode(s, self._caches[s].get(at)) for s, at in tick.stamps.items()}
            action, task = self._acting.act(features(samples, tick.last_action))
        except Exception as e:      # a policy may raise anything; the episode must end in good order
            self._pending = tick
            return self._failed(error_text(e))
        return Answer(tick.episode_id, tick.index, tick.stamp, action, task, self._acting.version,
                      1e3 * (time.perf_counter() - start))

    def _failed(self, error: str) -> Answer:
        # NaN: the episode node ends the episode as `policy_invalid` at once, instead of waiting
        tick, self._pending = self._pending, None
        return Answer(tick.episode_id, tick.index, tick.stamp, np.full(ACTION_SIZE, np.nan, np.float32), MAIN,
                      self._acting.version, 0.0, error)


def version_of(policy: Policy) -> str:
    """Its version, or the name of its class."""
    return str(getattr(policy, 'version', type(policy).__name__))


class PolicySource:
    """The policy to act with, renewed between episodes where it is 'latest'.

    Args:
      spec, policies_dir, evaluate, schedule_file, task: see `load_policy`.
      observation: of the cell.
      seed: every policy that is loaded gets one of its own, made from this one: a new version must not
        repeat the choices of the one before.

    Raises:
      PolicyError: there is no such policy, or it does not act from this observation.
    """

    def __init__(self, spec: str, policies_dir: str | Path, observation: str, seed: int = 0,
                 evaluate: bool = False, schedule_file: str | Path | None = None, task: str = ''):
        self._schedule_file, self._task = schedule_file, task
        self._spec, self._folder, self._observation = spec, Path(policies_dir), observation
        self._seed, self._evaluate, self._loads = seed, evaluate, 0
        self._newest = self._find()
        self.policy = self._load()

    def refresh(self, warn: Callable[[str], None]) -> Policy:
        """The policy for the next episode; if the newest version is damaged, the one in use goes on."""
        newest = self._find()
        if newest != self._newest:
            self._newest = newest
            try:
                self.policy = self._load()
            except PolicyError as e:
                warn(f'{e}; going on with {version_of(self.policy)}')
        return self.policy

    def _find(self) -> str:
        there = versions(self._folder) if self._spec == 'latest' else []
        return there[-1].name if there else ''

    def _load(self) -> Policy:
        seed = int(np.random.SeedSequence([self._seed, self._loads]).generate_state(1)[0])
        self._loads += 1
        policy = load_policy(self._spec, self._folder, seed, self._evaluate, self._schedule_file, self._task)
        wants = getattr(policy, 'observation', self._observation)
        if wants != self._observation:
            raise PolicyError(f'policy {version_of(policy)} acts from {wants}, '
                              f'this cell offers {self._observation}')
        return policy
