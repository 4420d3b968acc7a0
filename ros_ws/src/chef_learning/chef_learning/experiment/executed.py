# SPDX-License-Identifier: Apache-2.0
"""What the trials of an execute stage came to: records, who was best, and what was shown."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from chef_learning.experiment import trials
from chef_learning.experiment.config import COLLECTED, Stage
from chef_learning.experiment.folder import Experiment, read_json
from chef_task.bag.either import read_either
from chef_task.episode_file import SUFFIX, episode_id
from chef_task.records import EpisodeRecord
from chef_task.rewards import MAIN_TASK, TASKS

PLAN = 'trials.json'


def collected(experiment: Experiment, stage: Stage) -> str:
    """What the last policy of a collect stage is called among candidates."""
    return COLLECTED if sum(s.kind == 'collect' for s in experiment.stages) == 1 else stage.name


def records(experiment: Experiment, stage: Stage, triplet: int,
            read: Callable[[Path], EpisodeRecord] = read_either) -> dict[str, dict[int, EpisodeRecord]]:
    """Candidate to scene to the record of its trial, of those that were run."""
    out: dict[str, dict[int, EpisodeRecord]] = {}
    for (name, scene), path in _trials(experiment, stage, triplet).items():
        if path.exists():
            out.setdefault(name, {})[scene] = read(path)
    return out


class Executed:
    """What the trials of an execute stage and a triplet came to, read and ranked once.

    found: see `records`. ranked: scores of the candidates, the best first.
    """

    def __init__(self, experiment: Experiment, stage: Stage, triplet: int,
                 read: Callable[[Path], EpisodeRecord] = read_either):
        self._experiment, self._stage = experiment, stage
        self.found = records(experiment, stage, triplet, read)
        self.ranked = ranking(stage, self.found)

    @functools.cached_property
    def summary(self) -> list[str]:
        """Lines: a candidate each, and what was shown."""
        if not self.ranked:
            return []
        task = self._stage.settings.task
        lines = [f'{s.name}: {s.successes} of {s.trials}, return of {task} {s.of(task):.1f}, {s.stops} force stops'
                 for s in self.ranked]
        adjusted = trials.compare(self.ranked[0].name, outcomes(task, self.found))
        return [*lines, trials.verdict(self.ranked, adjusted, task)]

    @functools.cached_property
    def versus(self) -> list[str]:
        """A sentence on each candidate against COLLECT's last policy, where that was tried as well.

        Of several collect stages it is the newest whose learner is the experiment's, and the others are compared with it too.
        """
        scores, task = {s.name: s for s in self.ranked}, self._stage.settings.task
        tried = [(s, name) for s in self._experiment.before(self._stage, 'collect')
                 if (name := collected(self._experiment, s)) in self.found]
        if not tried:
            return []
        reference = [name for s, name in tried if s.learner is None or not any(t.learner is None for t, _ in tried)][-1]
        older = {name for s, name in tried if s.learner is None}     # the same way of collecting, with less data
        adjusted = trials.compare(reference, outcomes(task, self.found))
        return [trials.against(score, scores[reference], adjusted[name], task)
                for name, score in scores.items() if name not in older | {reference}]


def ran(experiment: Experiment, stage: Stage, triplet: int) -> int:
    """How many trials were run."""
    return sum(path.exists() for path in _trials(experiment, stage, triplet).values())


def episode_of(experiment: Experiment, stage: Stage, triplet: int, name: str, scene: int) -> Path:
    """Where the trial of a candidate in a scene lies, or will; KeyError if it is not planned."""
    return _trials(experiment, stage, triplet)[name, scene]


def _trials(experiment: Experiment, stage: Stage, triplet: int) -> dict[tuple[str, int], Path]:
    """Candidate and scene to episode, in the order in which they are run."""
    folder = experiment.place(stage, triplet)
    order = read_json(folder / PLAN).get('trials', [])
    if stage.settings.cells != 'simulated':
        from chef_learning.experiment import external, graph_cells
        ran = external.taken(folder) if stage.settings.cells == 'external' else \
            {number: bag for run in sorted(folder.glob('cells/*')) for number, bag in graph_cells.trials_of(run).items()}
        return {(name, scene): ran.get(number, folder / 'episodes' / f'{number}')
                for number, (name, scene) in enumerate(order)}
    return {(name, scene): folder / 'episodes' / (episode_id(number, stage.name) + SUFFIX)
            for number, (name, scene) in enumerate(order)}


def ranking(stage: Stage, found: Mapping[str, Mapping[int, EpisodeRecord]]) -> list[trials.Score]:
    """Scores of an execute stage's candidates, the best first, from its `records`."""
    return trials.rank([trials.score(name, list(of.values())) for name, of in found.items()], stage.settings.task)


def outcomes(task: str, found: Mapping[str, Mapping[int, EpisodeRecord]]) -> dict[str, dict[int, bool | float]]:
    """Candidate to scene to what its trial is judged by: success where the main task acted, else the acting task's return."""
    if task == MAIN_TASK:
        return {name: {scene: bool(r.success) for scene, r in of.items()} for name, of in found.items()}
    k = TASKS.index(task)
    return {name: {scene: float(r.returns[k]) for scene, r in of.items()} for name, of in found.items()}
