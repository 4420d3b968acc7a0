# SPDX-License-Identifier: Apache-2.0
"""What each stage does. All can be stopped at any moment and go on where they were by the same call."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from chef_learning.config import LearnerConfig, ReplayConfig
from chef_learning.experiment import trials
from chef_learning.experiment.candidate import RESULT, SPEC
from chef_learning.experiment.config import Stage
from chef_learning.experiment.folder import Experiment, ExperimentError, read_json, write_json
from chef_learning.experiment.training import Candidate, train, trained
from chef_task.episode_file import SUFFIX, episode_id, read_record
from chef_task.records import EpisodeRecord
from chef_task.rewards import MAIN_TASK

PLAN = 'trials.json'


@dataclass(frozen=True)
class Work:
    """What a stage works with. cell: file with the cell's configuration."""

    experiment: Experiment
    cell: Path
    say: Callable[[str], None]
    stop: Callable[[], bool]


def run(work: Work, stage: Stage) -> bool:
    """Runs a stage to its end; whether it got there, or was stopped.

    Raises:
      ExperimentError: it cannot.
      OSError: the disk refuses.
    """
    experiment = work.experiment
    if experiment.finished(stage):
        return True
    for earlier in experiment.stages[:stage.number - 1]:
        if not experiment.finished(earlier):
            raise ExperimentError(f'{stage.name}: {earlier.name} is not finished', usage=True)
    experiment.begin(stage)
    begun, done = time.monotonic(), False
    try:
        done = _RUN[stage.kind](work, stage)
    finally:
        experiment.spend(stage, time.monotonic() - begun, done)
    return done


def _collect(work: Work, stage: Stage) -> bool:
    from chef_learning.fleet_learner import Beside
    from chef_learning.fleet_worker import LEARNER
    settings = stage.settings
    for triplet in work.experiment.config.head.triplets:
        folder = work.experiment.place(stage, triplet)
        job = _job(work, stage, triplet, folder, settings.policy, settings.steps)
        left = _left(job, settings.episodes)
        beside = None
        if settings.policy == LEARNER and left:
            beside = Beside(work.experiment.config.learner, folder, work.experiment.config.head.seed,
                            settings.updates_per_step, settings.workers * settings.steps, settings.publish_s)
        if not _act(work, stage, triplet, job, left, settings.workers, beside):
            return False
    return True


def _explore(work: Work, stage: Stage) -> bool:
    of = {name: Candidate(config) for name, config in stage.candidates.items()}
    return train(work.experiment, stage, dict.fromkeys(work.experiment.config.head.triplets, of), work.say, work.stop)


def _execute(work: Work, stage: Stage) -> bool:
    from chef_learning.fleet_worker import Order
    experiment, settings = work.experiment, stage.settings
    for triplet in experiment.config.head.triplets:
        folder = experiment.place(stage, triplet)
        candidates = candidates_of(experiment, stage, triplet)
        order = trials.plan(list(candidates), settings.episodes, experiment.config.head.seed)
        write_json(folder / PLAN, {'trials': order, 'candidates': {k: str(v) for k, v in candidates.items()}})
        policies = {name: str(place / read_json(place / RESULT)['policy']) for name, place in candidates.items()}
        job = dataclasses.replace(_job(work, stage, triplet, folder, policies[order[0][0]], settings.steps),
                                  evaluate=settings.task == MAIN_TASK, task='' if settings.task == MAIN_TASK else settings.task)
        left = _left(job, len(order))
        if not _act(work, stage, triplet, job, left, settings.workers, None,
                    lambda number: Order(number, None, policies[order[number][0]], order[number][1])):
            return False
        for line in summary(stage, records(experiment, stage, triplet)):
            work.say(f'{stage.name}: triplet {triplet}: {line}')
    return True


def _finetune(work: Work, stage: Stage) -> bool:
    experiment, found = work.experiment, {}
    executed = experiment.before(stage, 'execute')[-1]
    for triplet in experiment.config.head.triplets:
        best = ranking(executed, records(experiment, executed, triplet))[0].name
        start = candidates_of(experiment, executed, triplet)[best]
        config = half_and_half(LearnerConfig.from_dict(read_json(start / SPEC)['learner']))
        found[triplet] = {'fine-tuned': Candidate(config, start)}
        if stage.settings.scratch:
            found[triplet]['from-scratch'] = Candidate(config)
    return train(experiment, stage, found, work.say, work.stop)


_RUN = {'collect': _collect, 'explore': _explore, 'execute': _execute, 'finetune': _finetune}


def half_and_half(config: LearnerConfig) -> LearnerConfig:
    """With half of every batch from COLLECT and half from EXECUTE (paper, section VII.E)."""
    replay: ReplayConfig = dataclasses.replace(config.replay, sets=('episode:*collect*', 'episode:*execute*'), shares=(0.5, 0.5))
    return dataclasses.replace(config, replay=replay)


def candidates_of(experiment: Experiment, stage: Stage, triplet: int) -> dict[str, Path]:
    """Name to folder of what an execute stage tries: what the newest training before it made."""
    trainings = experiment.before(stage, 'explore', 'finetune')
    found = trained(experiment, trainings[-1], triplet)
    if not found:
        raise ExperimentError(f'{stage.name}: no candidate of {trainings[-1].name} can act on triplet {triplet}')
    return found


def _job(work: Work, stage: Stage, triplet: int, folder: Path, policy: str, steps: int):
    from chef_learning.fleet_worker import Job
    head = work.experiment.config.head
    return Job(folder, work.cell, policy, triplet, head.physics, head.observation, _seed(head.seed, stage.number), steps,
               'set', name=stage.name)


def _seed(seed: int, stage: int) -> int:
    """Of a stage's scenes: no two stages have the same."""
    return seed * 1000 + stage


def _left(job, count: int) -> int:
    """How many of the first `count` episodes are not there yet."""
    from chef_learning.fleet import missing
    return sum(1 for _ in itertools.takewhile(lambda number: number < count, missing(job.folder / 'episodes', job.name)))


def _act(work: Work, stage: Stage, triplet: int, job, left: int, workers: int, beside, plan=None) -> bool:
    """Runs the episodes that are missing; whether all are there."""
    from chef_learning.fleet import Fleet, FleetError
    if not left:
        return True
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        Fleet(job, left, workers, beside, lambda line: work.say(f'{stage.name}: triplet {triplet}: {line}'), work.stop,
              plan).run()
    except FleetError as e:
        raise ExperimentError(f'{stage.name}: {e}', e.usage) from None
    return not work.stop()


def records(experiment: Experiment, stage: Stage, triplet: int) -> dict[str, dict[int, EpisodeRecord]]:
    """Candidate to scene to the record of its trial, of those that were run."""
    folder = experiment.place(stage, triplet)
    order = read_json(folder / PLAN).get('trials', [])
    out: dict[str, dict[int, EpisodeRecord]] = {}
    for number, (name, scene) in enumerate(order):
        path = folder / 'episodes' / (episode_id(number, stage.name) + SUFFIX)
        if path.exists():
            out.setdefault(name, {})[scene] = read_record(path)
    return out


def ranking(stage: Stage, found: Mapping[str, Mapping[int, EpisodeRecord]]) -> list[trials.Score]:
    """Scores of an execute stage's candidates, the best first, from its `records`."""
    return trials.rank([trials.score(name, list(of.values())) for name, of in found.items()], stage.settings.task)


def summary(stage: Stage, found: Mapping[str, Mapping[int, EpisodeRecord]]) -> list[str]:
    """Lines about an execute stage, from its `records`: a candidate each, and what was shown."""
    ranked = ranking(stage, found)
    if not ranked:
        return []
    lines = [f'{s.name}: {s.successes} of {s.trials}, return of {stage.settings.task} {s.of(stage.settings.task):.1f}, '
             f'{s.stops} force stops' for s in ranked]
    successes = {name: {scene: r.success for scene, r in of.items()} for name, of in found.items()}
    return [*lines, trials.verdict(ranked, trials.compare(ranked, successes))]
