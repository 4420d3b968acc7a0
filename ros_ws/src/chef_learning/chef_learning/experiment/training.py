# SPDX-License-Identifier: Apache-2.0
"""Candidates that learn offline, several at a time, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chef_learning.config import LearnerConfig
from chef_learning.experiment.config import Stage
from chef_learning.experiment.executors import Executor
from chef_learning.experiment.folder import RESULT, SPEC, Experiment, ExperimentError, read_json
from chef_learning.experiment.measure import without_held_out
from chef_learning.experiment.objective import ACT
from chef_task.whole_file import write_json

_LOOK_S = 0.2


@dataclass(frozen=True)
class Candidate:
    """What one is to learn.

    start: folder of the candidate whose checkpoint it goes on from, None: from scratch. updates: the stage's if None. trial:
    what a search knows it by.
    """

    config: LearnerConfig
    start: Path | None = None
    updates: int | None = None
    trial: Mapping[str, Any] | None = None


def given(experiment: Experiment, stage: Stage, candidates: Mapping[int, Mapping[str, Candidate]],
          cell: Path | None = None) -> Iterator[Path]:
    """Folders of candidates with a name that have no result yet, with what they are to learn written into them.

    Args:
      candidates: triplet to name to candidate.
      cell: file with the cell's configuration, for trials.
    """
    for triplet, of in candidates.items():
        for name, candidate in of.items():
            folder = experiment.place(stage, triplet) / name
            if not read_json(folder / RESULT):
                specify(experiment, stage, triplet, folder, candidate, cell)
                yield folder


def train(stage: Stage, total: int, executor: Executor, waiting: Iterator[Path], say: Callable[[str], None],
          stop: Callable[[], bool]) -> bool:
    """Trains what is handed out; a candidate that fails does not stop the others.

    Args:
      total: candidates of the stage, those that were done before among them.
      waiting: folders of candidates with a `candidate.json`, each asked for when it can start.

    Returns:
      Whether all are done; false where it was stopped.
    """
    running: set[Path] = set()
    begun, more = 0, True
    try:
        while (more or running) and not stop():
            while more and len(running) < stage.settings.jobs:
                folder = next(waiting, None)
                if folder is None:
                    more = False
                    break
                executor.start(folder)
                running.add(folder)
                begun += 1
                say(f'{stage.name}: {folder.parent.name}/{folder.name} learns ({begun}, of {total} in all)')
            if running:
                time.sleep(_LOOK_S)
            for folder, code, where in executor.ended():
                running.discard(folder)
                say(f'{stage.name}: {folder.parent.name}/{folder.name} {_outcome(folder, code)}{where and f" ({where})"}')
    finally:
        executor.close()
    return not stop()


def check_any(experiment: Experiment, stage: Stage) -> None:
    """ExperimentError if all candidates of a triplet failed."""
    for triplet in experiment.config.head.triplets:
        folder = experiment.place(stage, triplet)
        if not trained(experiment, stage, triplet, pruned=True):
            raise ExperimentError(f'{stage.name}: all candidates of triplet {triplet} failed; remove their {RESULT} in {folder} '
                                  'to try again')


def specify(experiment: Experiment, stage: Stage, triplet: int, folder: Path, candidate: Candidate,
            cell: Path | None = None) -> None:
    """Writes what a candidate is to learn; OSError if the disk refuses."""
    start, head, config, more = candidate.start, experiment.config.head, candidate.config, {}
    if stage.objective:
        more['objective'] = {
            **asdict(stage.objective), 'judge': experiment.config.learner.to_dict(), 'triplet': triplet,
            'physics': head.physics, 'observation': head.observation, 'seed': head.seed * 1000 + stage.number,
            'cell': str(Path(cell).resolve()) if cell else '', 'name': f'{stage.name}-{folder.name}'}
        if holds_out(stage):
            config = without_held_out(config, stage.objective.held_out)
    if stage.stopping:
        more['early_stopping'] = asdict(stage.stopping)
    if candidate.trial:
        more['trial'] = dict(candidate.trial)
    write_json(folder / SPEC, {
        'learner': config.to_dict(), 'updates': candidate.updates or stage.settings.updates, 'seed': head.seed,
        'data': [str(p.resolve()) for p in experiment.data(stage, triplet)], 'start': str(start.resolve()) if start else '',
        'start_updates': read_json(start / RESULT)['updates'] if start else 0, **more})


def holds_out(stage: Stage) -> bool:
    """Whether candidates leave some episodes to what measures them."""
    measures = [stage.objective.measure if stage.objective else ACT, *([stage.stopping.measure] if stage.stopping else [])]
    return any(m not in ('', ACT) for m in measures)


def _outcome(folder: Path, code: int) -> str:
    result = read_json(folder / RESULT)
    if not result:      # it was killed, or broke where it should not
        result = {'error': f'its process ended with {code}; see {folder / "log.txt"}'}
        if code >= 0:
            write_json(folder / RESULT, result)
    return words(result)


def words(result: Mapping[str, Any]) -> str:
    """What became of a candidate, of its result.json."""
    if 'error' in result:
        return f'failed: {result["error"]}'
    if 'pruned' in result:
        return f'was stopped early: {result["pruned"]}'
    measured = f', objective {result["objective"]:.4g}' if 'objective' in result else ''
    return f'is done: {result["updates"]} updates{measured}'


def trained(experiment: Experiment, stage: Stage, triplet: int, pruned: bool | None = None) -> dict[str, Path]:
    """Name to folder of the candidates of a stage that did not fail.

    Args:
      pruned: with those that were stopped early; None: as the stage's settings say.
    """
    if pruned is None:
        pruned = stage.stopping is not None and stage.stopping.execute
    out = {}
    for path in sorted(experiment.place(stage, triplet).glob(f'*/{RESULT}')):
        result = read_json(path)
        if 'error' not in result and (pruned or 'pruned' not in result):
            out[path.parent.name] = path.parent
    return out
