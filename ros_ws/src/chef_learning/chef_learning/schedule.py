# SPDX-License-Identifier: Apache-2.0
"""Which task's head acts: the schedulers of an episode (SAC-X, Riedmiller et al. 2018).

A scheduler has `reset()`, before an episode's first step, and `task(step)`, asked once per step, ascending.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Scheduler(Protocol):
    """Chooses tasks within an episode."""

    def reset(self) -> None: ...

    def task(self, step: int) -> int:
        """Index of the task to act for at a step of the episode, 0, 1, ..."""


class UniformScheduler:
    """SAC-U: every `period` control steps a task drawn uniformly from `tasks` many."""

    def __init__(self, tasks: int, period: int, seed: int):
        self._tasks, self._period = tasks, period
        self._rng = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        self._slot, self._task = -1, 0

    def task(self, step: int) -> int:
        slot = step // self._period
        if slot != self._slot:
            self._slot, self._task = slot, int(self._rng.integers(self._tasks))
        return self._task


class FixedScheduler:
    """One task throughout: evaluation acts for the main task only."""

    def __init__(self, task: int):
        self._task = task

    def reset(self) -> None:
        pass

    def task(self, step: int) -> int:
        return self._task
