# SPDX-License-Identifier: Apache-2.0
"""What a candidate of an explore stage is worth, and when one may be stopped early: the settings, and what may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chef_learning.config import LearnerConfig
from chef_learning.tasks import COMPOSITE
from chef_task.rewards import MAIN_TASK, TASKS
from chef_task.settings import option

ACT = 'act'
MEASURES = ('fitted_value', 'critic_loss', 'log_likelihood', ACT)
RULES = ('median', 'halving')
# What all candidates must have alike, for a number of one to mean the same of another.
_ALIKE = {
    'fitted_value': ('observation', 'replay.labels'),
    'critic_loss': ('observation', 'replay.labels', 'tasks', 'discount', 'n_step', 'network.atoms'),
    'log_likelihood': ('observation', 'tasks', 'network.gripper'),
    ACT: ('observation',),
}


@dataclass(frozen=True)
class Objective:
    """What is measured of a candidate once it has learned."""

    measure: str = option(
        'fitted_value', 'fitted_value: what a critic of its own, which learns from held-out episodes alone what following the '
        'policy\'s mean is worth, gives its policy there (in units of return, greater is better); critic_loss: of the '
        'candidate\'s critic on held-out episodes, in nats, smaller is better; log_likelihood: of the actions of held-out '
        'episodes, in nats, greater is better; act: mean return of simulated trials', choices=MEASURES)
    task: str = option(MAIN_TASK, 'whose policy and rewards, for fitted_value and act', choices=TASKS)
    held_out: float = option(0.1, 'share of the episodes that no candidate learns from; of no effect with act', above=0, below=1)
    updates: int = option(5000, 'of the critic of fitted_value', low=1)
    episodes: int = option(10, 'trials of a candidate, for act', low=1, high=10**6)
    steps: int = option(400, 'control steps of such a trial', low=1, high=10**6)


@dataclass(frozen=True)
class EarlyStopping:
    """When a candidate that is worse than others is not learned to its end."""

    rule: str = option('median', 'median: one whose best value so far is worse than the median of the finished ones after as '
                       'many updates; halving: one that is not among the best of those that came as far (asynchronous '
                       'successive halving)', choices=RULES)
    measure: str = option('', 'what is compared; empty: as the objective', choices=('', *(m for m in MEASURES if m != ACT)))
    every: int = option(1000, 'updates between two looks; with halving those of the first, and each later one is after `factor` '
                        'times as many', low=1)
    after: int = option(0, 'median: updates before which none is stopped', low=0)
    startup: int = option(5, 'median: candidates that must have been learned to the end before', low=1)
    factor: int = option(3, 'halving: one in so many goes on from each look', low=2)
    execute: bool = option(False, 'let those that were stopped act in the execute stage nevertheless')

    def due(self, updates: int) -> bool:
        """Whether there is a look after so many updates."""
        if self.rule == 'median':
            return updates > 0 and updates % self.every == 0 and updates >= self.after
        rung = self.every
        while rung < updates:
            rung *= self.factor
        return rung == updates


def direction(measure: str) -> str:
    """As Optuna says it."""
    return 'minimize' if measure == 'critic_loss' else 'maximize'


def check(objective: Objective | None, stopping: EarlyStopping | None, base: LearnerConfig,
          candidates: Mapping[str, LearnerConfig], space: Iterable[str], where: str) -> None:
    """ValueError, one line, where numbers of the candidates could not be compared, or could not be had.

    Args:
      candidates: those with a name. space: keys that a search varies.
    """
    if objective is None:
        return
    looked = stopping.measure or objective.measure if stopping else objective.measure
    if looked == ACT and stopping:
        raise ValueError(f'{where}.early_stopping.measure: is needed: act would cost robot episodes at every look')
    space, configs = list(space), [*candidates.values()] or [base]
    for measure in dict.fromkeys((objective.measure, looked)):
        for key in _ALIKE[measure]:
            if key in space:
                raise ValueError(f'{where}.search.space.{key}: cannot be searched by {measure}: its values would not compare')
            if len({_get(c, key) for c in configs}) > 1:
                raise ValueError(f'{where}: candidates differ in {key}: their {measure} would not compare')
        if measure == 'critic_loss' and (any(c.algorithm == 'bc' for c in configs) or 'algorithm' in space):
            raise ValueError(f'{where}: critic_loss: behaviour cloning (algorithm bc) has no critic')
        if measure in ('fitted_value', ACT):
            for config in configs:
                if 'tasks' not in space and not _learns(config.tasks, objective.task):
                    raise ValueError(f'{where}.objective.task: {objective.task} is not learned where tasks is {config.tasks}')


def _learns(tasks: str, task: str) -> bool:
    return {'all': True, 'main': task == MAIN_TASK, COMPOSITE: True}.get(       # one head, for whichever task
        tasks, task in [name.strip() for name in tasks.split(',')])


def _get(config: Any, key: str) -> Any:
    for part in key.split('.'):
        config = getattr(config, part)
    return config
