# SPDX-License-Identifier: Apache-2.0
"""Which task's head acts: the schedulers of an episode (SAC-X, Riedmiller et al. 2018, arXiv 1802.10567).

An episode of T steps has ceil(T / period) slots; a scheduler chooses a task for each. `reset()` comes before
the first step, `task(step)` once per step, `reward(r)` after each with the main task's reward of the state
that it led to, and `end()` when the episode is over and may be learned from.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Protocol

import numpy as np

from chef_learning.config import ScheduleConfig


class Scheduler(Protocol):
    """Chooses tasks within an episode."""

    def reset(self) -> None: ...

    def task(self, step: int) -> int:
        """Index of the task to act for at a step of the episode, 0, 1, ..."""

    def reward(self, value: float) -> None: ...

    def end(self) -> None: ...

    def outcome(self) -> tuple[list[int], list[float]]:
        """What `end` would learn from."""

    def reseed(self, seed: int) -> None: ...


class FixedScheduler:
    """One task throughout: evaluation acts for the main task only."""

    def __init__(self, task: int):
        self._task = task

    def reset(self) -> None:
        pass

    def task(self, step: int) -> int:
        return self._task

    def reward(self, value: float) -> None:
        pass

    def end(self) -> None:
        pass

    def outcome(self) -> tuple[list[int], list[float]]:
        return [], []

    def reseed(self, seed: int) -> None:
        pass


class SlotScheduler:
    """SAC-U and SAC-Q: a task for every `config.period` steps, at random or by what has paid.

    SAC-Q keeps a table of the main task's return from a slot to the episode's end, by the tasks chosen so
    far and the next one (equations 9 to 11 of the paper), moved by a constant step towards what was seen,
    and draws from softmax(table / temperature). Returns are scaled by the largest one in the table, so that
    a temperature means the same at every stage of learning.

    Args:
      tasks: how many there are.
      config: see `ScheduleConfig`.
      seed: of the choices.
      path: file to keep the table in, beside it `<name>.jsonl` with a line an episode; None: in memory only.

    Attributes:
      table: (tasks chosen so far, next task) -> expected return of the main task from then on.
      episodes: how many the table has learned from.

    Raises:
      ValueError: the file at `path` is damaged or of another set of tasks.
    """

    def __init__(self, tasks: int, config: ScheduleConfig, seed: int, path: Path | str | None = None):
        self._tasks, self._config, self._path = tasks, config, Path(path) if path else None
        self._rng = np.random.default_rng(seed)
        self.table: dict[tuple[tuple[int, ...], int], float] = {}
        self.episodes = 0
        if self._path is not None and self._path.exists():
            self._load(self._path)
        self.reset()

    def reset(self) -> None:
        self._chosen: list[int] = []
        self._rewards: list[float] = []

    def task(self, step: int) -> int:
        while len(self._chosen) <= step // self._config.period:
            self._chosen.append(int(self._rng.choice(self._tasks, p=self.probabilities(tuple(self._chosen)))))
        return self._chosen[-1]

    def reward(self, value: float) -> None:
        self._rewards.append(float(value))

    @property
    def temperature(self) -> float:
        """Of the next choice: annealed by episodes."""
        c = self._config
        return max(c.temperature * c.temperature_decay ** self.episodes, c.temperature_min)

    def probabilities(self, chosen: tuple[int, ...]) -> np.ndarray:
        """Of each task to come next, [tasks], after those chosen so far in the episode."""
        if self._config.kind == 'sac_u':
            return np.full(self._tasks, 1 / self._tasks)
        scale = max(self.table.values(), default=0.0) or 1.0
        values = np.array([self.table.get((chosen, t), 0.0) for t in range(self._tasks)]) / scale
        weights = np.exp((values - values.max()) / self.temperature)
        return weights / weights.sum()

    def end(self) -> None:
        """Moves the table towards what the episode's choices brought, and saves it."""
        self.learn(*self.outcome())
        self.reset()

    def outcome(self) -> tuple[list[int], list[float]]:
        """The tasks chosen in this episode and, for each, the main task's return from its slot on."""
        returns = self._tail_returns()
        return self._chosen[:len(returns)], returns

    def learn(self, chosen: list[int], returns: list[float]) -> None:
        """Moves the table towards an `outcome`, of this scheduler or of one that was handed its table."""
        for slot, value in enumerate(returns):
            key = (tuple(chosen[:slot]), chosen[slot])
            old = self.table.get(key)
            self.table[key] = value if old is None else old + self._config.rate * (value - old)
        self.episodes += bool(returns)
        if self._path is not None and returns:
            self._save(self._path, chosen, returns)

    def reseed(self, seed: int) -> None:
        """Chooses from here on as one that was made with this seed."""
        self._rng = np.random.default_rng(seed)

    def _tail_returns(self) -> list[float]:
        """R(h) = sum over t >= h * period of discount^t r_t, of every slot that had a step."""
        period, gamma = self._config.period, self._config.discount
        discounted = [gamma ** t * r for t, r in enumerate(self._rewards)]
        slots = min(len(self._chosen), math.ceil(len(discounted) / period))
        return [math.fsum(discounted[h * period:]) for h in range(slots)]

    # ---- what is kept -----------------------------------------------------------------------------

    def _save(self, path: Path, chosen: list[int], returns: list[float]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_suffix('.jsonl'), 'a', encoding='utf-8') as f:
            f.write(json.dumps({'episode': self.episodes, 'tasks': chosen,
                                'returns': [round(r, 6) for r in returns],
                                'temperature': self.temperature}) + '\n')
        rows = [[list(chosen), task, value] for (chosen, task), value in sorted(self.table.items())]
        temporary = path.with_name(f'.{path.name}.partial')
        temporary.write_text(json.dumps({'tasks': self._tasks, 'episodes': self.episodes, 'table': rows}) + '\n',
                             encoding='utf-8')
        os.replace(temporary, path)

    def _load(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text(encoding='utf-8'))
            tasks, episodes = int(data['tasks']), int(data['episodes'])
            table = {(tuple(map(int, chosen)), int(task)): float(value) for chosen, task, value in data['table']}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            raise ValueError(f'{path}: not a schedule of ours: {" ".join(str(e).split())}') from None
        if tasks != self._tasks or not all(map(math.isfinite, table.values())):
            raise ValueError(f'{path}: it is of {tasks} tasks, here are {self._tasks}, or holds no finite values')
        self.table, self.episodes = table, episodes
