# SPDX-License-Identifier: Apache-2.0
"""What an episode is asked for, gives back, waits for and does to the world; see `episode`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np

from chef_task import rewards, spaces
from chef_task.records import StepRecord


@dataclass(frozen=True)
class Goal:
    """What to run. triplet: 1..5. seed: of the scene's reset. max_steps: control steps. asked: see `read_asked`."""

    episode_id: str
    triplet: int
    seed: int
    max_steps: int = spaces.EPISODE_STEPS
    asked: Mapping[str, Any] = field(default_factory=dict)


def read_asked(text: str) -> dict[str, Any] | None:
    """What an experiment asked for, which goes into the bag, {} if nothing; None if it is damaged, or has a `stage` that
    cannot go into the name of a bag.
    """
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and re.fullmatch('[A-Za-z0-9_]{1,80}', f'{found.get("stage", "_")}') else None


@dataclass
class Outcome:
    """What came of it. returns: [tasks]. periods_ms, latencies_ms: wall clock, one per tick."""

    goal: Goal
    reason: str = ''
    steps: int = 0
    success: bool = False
    peak_force_n: float = 0.0
    returns: np.ndarray = field(default_factory=lambda: np.zeros(len(rewards.TASKS), np.float32))
    policy_version: str = ''
    bag: str = ''
    error: str = ''          # why it could not start, or was not recorded
    periods_ms: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    overruns: int = 0        # ticks more than 10 ms late, in real time
    missed: int = 0          # control periods without a tick, in real time
    end_ns: int = 0


class Ports(Protocol):
    """What an episode does to the world; all calls return at once."""

    def unconnected(self) -> str:
        """Who does not listen yet, or ''."""

    def start(self, goal: Goal, stamp: int) -> None: ...
    def tick(self, goal: Goal, stamp: int, index: int, stamps: dict[str, int], last_action) -> None: ...
    def command(self, stamp: int, action, move: bool) -> None: ...
    def step(self, goal: Goal, step: StepRecord, age_ms: float, latency_ms: float) -> None: ...
    def end(self, outcome: Outcome, stamp: int) -> None: ...


class Phase(Enum):
    IDLE = 0
    PREPARING = 1   # announced; waiting for sensors, policy, recorder and safety gate
    TICKING = 2     # the next tick is due at a time
    ACTING = 3      # waiting for the policy's action
    SEALING = 4     # ended; waiting for the recorder
    DONE = 5


@dataclass(frozen=True)
class Waits:
    """Deadlines of the waits that are not limits, wall clock."""

    prepare_s: float = 20.0    # for sensors, policy and recorder to be ready
    seal_s: float = 20.0       # for the recorder to seal the bag
    gone_s: float = 2.0        # without its heartbeat, until a recorder that should seal counts as dead
    heartbeat_s: float = 0.8   # of the recorder and the safety gate, and for the recorder to write something
    lockstep_s: float = 5.0    # for samples, an action or a heartbeat, in lockstep

    @classmethod
    def in_lockstep(cls, deadline_s: float) -> Waits:
        """Those of a graph whose nodes may let one another wait for so long: nothing moves meanwhile."""
        longer = max(1.0, deadline_s / cls.lockstep_s)
        return cls(cls.prepare_s * longer, cls.seal_s * longer, cls.gone_s * longer, cls.heartbeat_s * longer, deadline_s)
