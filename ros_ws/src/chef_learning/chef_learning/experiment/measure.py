# SPDX-License-Identifier: Apache-2.0
"""Measures a candidate that has learned, within its process: from episodes that were held out, or by simulated trials."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from chef_learning.config import LearnerConfig
from chef_learning.experiment.folder import ExperimentError
from chef_learning.experiment.objective import ACT
from chef_task.rewards import MAIN_TASK, TASKS

_BATCHES, _SEED = 32, 0     # of held-out transitions, the same for all candidates


def without_held_out(config: LearnerConfig, share: float) -> LearnerConfig:
    """The settings of a learner that learns from the episodes that are not held out."""
    sets = tuple(f'{s.removesuffix("?")}+learned:{share!r}{"?" if s.endswith("?") else ""}' for s in config.replay.sets)
    return dataclasses.replace(config, replay=dataclasses.replace(config.replay, sets=sets))


def measured(name: str, learner, wanted: Mapping, stop: Callable[[], bool]) -> float | None:
    """A measure of a candidate as it is; None if it was stopped.

    Args:
      name: of the measure.
      learner: a RunLearner.
      wanted: the objective, as candidate.json has it.

    Raises:
      ExperimentError: it cannot be had, or is not finite.
      PolicyError, FleetError, ReplayError, OSError: by what it takes.
    """
    value = _acted(learner, wanted, stop) if name == ACT else _held_out(name, learner, wanted, stop)
    if value is not None and not math.isfinite(value):
        raise ExperimentError(f'its {name} is not finite')
    return value


def _held_out(name: str, learner, wanted: Mapping, stop: Callable[[], bool]) -> float | None:
    from chef_learning import held_out
    inner, sets = learner.learner, (f'held_out:{wanted["held_out"]!r}',)
    judge = LearnerConfig.from_dict(wanted['judge'])
    config = judge if name == 'fitted_value' else learner.config
    replay = learner.read_replay(sets, wanted['task'] if config is judge else config.tasks, config is judge or config.haptics)
    if not len(replay):
        raise ExperimentError(f'no episode is held out: {wanted["held_out"]:g} of {len(replay.episodes)} episodes are none')
    size, steps = config.batch_size, 1 if config is judge else config.n_step

    def batch(number: int):
        return replay.sample(np.random.default_rng([_SEED, number]), size, steps, config.discount)
    if name == 'critic_loss':
        return held_out.loss_of_critic(inner, map(batch, range(_BATCHES)))
    if name == 'log_likelihood':
        return held_out.log_likelihood(inner, map(batch, range(_BATCHES)))
    return held_out.fitted_value(held_out.mean_of(inner.actor, _head(inner.domain.tasks, wanted['task'])), batch, judge,
                                 wanted['updates'], _BATCHES, inner.device, _SEED, stop)


def _head(tasks: tuple[str, ...], task: str) -> int:
    from chef_learning.tasks import COMPOSITE
    for name in (task, COMPOSITE):      # as whoever acts chooses its head
        if name in tasks:
            return tasks.index(name)
    raise ExperimentError(f'it has no policy for {task}, only for {", ".join(tasks)}')


def _acted(learner, wanted: Mapping, stop: Callable[[], bool]) -> float | None:
    """Mean return of its trials; their episodes stay, and later stages learn from them."""
    from chef_learning.fleet import Fleet
    from chef_learning.fleet_worker import Job, Order
    from chef_task.episode_file import SUFFIX, episode_id, read_record
    main = wanted['task'] == MAIN_TASK
    job = Job(learner.run_dir, Path(wanted['cell']), str(learner.run_dir / 'policies' / learner.version), wanted['triplet'],
              wanted['physics'], wanted['observation'], wanted['seed'], wanted['steps'], 'set', evaluate=main,
              task='' if main else wanted['task'], name=wanted['name'])
    paths = [learner.run_dir / 'episodes' / (episode_id(k, job.name) + SUFFIX) for k in range(wanted['episodes'])]
    left = sum(not p.exists() for p in paths)
    if left:
        Fleet(job, left, 1, None, print, stop, lambda number: Order(number, None, '', number)).run()
    if stop():
        return None
    return float(np.mean([read_record(p).returns[TASKS.index(wanted['task'])] for p in paths]))
