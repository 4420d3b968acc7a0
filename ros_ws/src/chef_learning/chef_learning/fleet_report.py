# SPDX-License-Identifier: Apache-2.0
"""What a fleet says of its work: a line every few seconds, and a summary."""

from __future__ import annotations

import time
from collections import Counter, deque

import numpy as np

from chef_task.records import EpisodeRecord
from chef_task.rewards import TASKS

_EVERY_S = 5.0
_NEWEST = 100       # episodes that a line is about


class Tally:
    """Counts episodes. steps: control steps, of all."""

    def __init__(self):
        self.episodes = self.steps = self.successes = 0
        self._reasons: Counter[str] = Counter()
        self._newest: deque[EpisodeRecord] = deque(maxlen=_NEWEST)
        self._returns = np.zeros(len(TASKS))
        self._begun: float | None = None    # when the first episode was done: starting takes seconds
        self._at_begin = (0, 0)
        self._told = time.monotonic()

    def add(self, record: EpisodeRecord) -> None:
        """An episode is done."""
        self.episodes += 1
        self.steps += record.steps
        self.successes += record.success
        self._reasons[record.termination_reason.split(':')[0]] += 1
        self._returns += record.returns
        self._newest.append(record)
        if self._begun is None:
            self._begun, self._at_begin = time.monotonic(), (self.episodes, self.steps)

    def rates(self) -> tuple[float, float]:
        """Episodes and control steps a second, since the first episode was done."""
        elapsed = time.monotonic() - self._begun if self._begun else 0.0
        if elapsed <= 0.0:
            return 0.0, 0.0
        return (self.episodes - self._at_begin[0]) / elapsed, (self.steps - self._at_begin[1]) / elapsed

    def due(self) -> list[str]:
        """The next line, where it is time for one."""
        if time.monotonic() - self._told < _EVERY_S or not self._newest:
            return []
        self._told = time.monotonic()
        new, (episodes, steps) = self._newest, self.rates()
        success = sum(r.success for r in new) / len(new)
        return [f'{self.episodes} episodes, {episodes:.2f}/s, {steps:.0f} steps/s; of the last {len(new)}: '
                f'success {100 * success:.0f} %, return {_worth(np.mean([r.returns for r in new], axis=0))}, '
                f'policy {new[-1].policy_version}']

    def summary(self) -> list[str]:
        """Lines for the end."""
        if not self.episodes:
            return ['no episodes']
        episodes, steps = self.rates()
        return [f'{self.episodes} episodes, {self.steps} steps, {self.successes} successes; '
                f'{episodes:.2f} episodes/s, {steps:.0f} steps/s',
                'ended by: ' + ', '.join(f'{r} {n}' for r, n in sorted(self._reasons.items())),
                f'mean return: {_worth(self._returns / self.episodes)}']


def _worth(returns) -> str:
    return '  '.join(f'{t} {r:.1f}' for t, r in zip(TASKS, returns))
