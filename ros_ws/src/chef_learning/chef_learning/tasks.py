# SPDX-License-Identifier: Apache-2.0
"""Which tasks are learned, from the rewards that were recorded: all, some, the main one, or one of staged reward.

The last two are the paper's baselines (section VII.F and its ablations): the same learner with one head. Without the
main task among them SAC-Q sees no difference between tasks and chooses at random.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from chef_task.rewards import MAIN_TASK

COMPOSITE = 'composite'
# From the first stage to the last (Lee et al. 2021).
STAGES = ('reach_grasp', 'lift', 'place', 'stack', 'stack_leave')
REACHED = 0.01      # a task counts as reached, and a stage, above this reward

Rewards = Callable[[np.ndarray], np.ndarray]    # [..., recorded tasks] to [..., learned tasks]


def choose(kind: str, recorded: tuple[str, ...]) -> tuple[tuple[str, ...], Rewards | None]:
    """What is learned of the tasks that were recorded.

    Args:
      kind: 'all', 'main', 'composite' or names with commas, as in `LearnerConfig.tasks`.
      recorded: names, in the order of the rewards.

    Returns:
      Names of the learned tasks, and what makes their rewards of the recorded ones (None: they are the same).

    Raises:
      ValueError: a reward that is needed was not recorded, or a name is there twice.
    """
    if kind == 'all':
        return tuple(recorded), None
    named = tuple(name.strip() for name in kind.split(','))
    if len(set(named)) < len(named):
        raise ValueError(f'tasks: {kind} names one twice')
    needed = {'main': (MAIN_TASK,), COMPOSITE: STAGES}.get(kind, named)
    missing = [name for name in needed if name not in recorded]
    if missing:
        raise ValueError(f'tasks: {kind} needs the reward of {", ".join(missing)}, '
                         f'there are those of {", ".join(recorded)}')
    columns = [recorded.index(name) for name in needed]
    if kind != COMPOSITE:
        return needed, partial(_pick, columns)
    return (COMPOSITE,), partial(_staged, columns)


def _pick(columns: list[int], rewards: np.ndarray) -> np.ndarray:
    return rewards[..., columns]


def _staged(columns: list[int], rewards: np.ndarray) -> np.ndarray:
    return composite(rewards[..., columns])


def composite(stages: np.ndarray) -> np.ndarray:
    """The staged reward, [..., 1] in [0, 1], of the rewards of the S stages [..., S].

    (i + r_i) / S of the last stage i = 0 .. S - 1 whose reward r_i is above 0.01, and 0 where there is none.
    """
    count = stages.shape[-1]
    last = (np.where(stages > REACHED, np.arange(1, count + 1), 0)).max(-1, keepdims=True)    # 0: none
    value = np.take_along_axis(stages, np.maximum(last - 1, 0), -1)
    return np.where(last > 0, (last - 1 + value) / count, 0.0).astype(stages.dtype)
