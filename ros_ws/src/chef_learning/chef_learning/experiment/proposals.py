# SPDX-License-Identifier: Apache-2.0
"""The candidates that a search proposes, one after the other, as folders like those of candidates with a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chef_learning.config import LearnerConfig
from chef_learning.experiment import pruning
from chef_learning.experiment.config import Stage, changed
from chef_learning.experiment.folder import RESULT, SPEC, Experiment, ExperimentError, now, read_json
from chef_learning.experiment.objective import direction
from chef_learning.experiment.search import JOURNAL, Search, Trial, export, propose
from chef_learning.experiment.training import Candidate, specify, words
from chef_task.whole_file import write_json


def proposed(experiment: Experiment, stage: Stage, triplet: int, cell: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Folders of the candidates of a search that have no result yet: those that had begun, then new ones, each proposed when
    it is asked for, by what is known then.

    Raises:
      ExperimentError: a file is damaged.
      OSError: the disk refuses.
    """
    search, place, head = stage.search, experiment.place(stage, triplet), experiment.config.head
    for number in range(search.trials):
        folder = place / name_of(number)
        if read_json(folder / RESULT):
            continue
        spec = read_json(folder / SPEC)
        if not spec:
            before = trials(place, search)
            keep(experiment, stage, triplet)
            params = propose(search, direction(stage.objective.measure), head.seed * 1000 + triplet, before)
        else:
            params = _params(folder, spec, search)
        trial = {'number': number, 'params': params,
                 'settings': {key: search.space[key].value(v) for key, v in params.items()}}
        try:
            config = LearnerConfig.from_dict(changed(experiment.config.learner.to_dict(), trial['settings']))
        except ValueError as e:     # each is possible, but not all together
            specify(experiment, stage, triplet, folder, Candidate(experiment.config.learner, trial=trial), cell)
            result = {'error': f'its settings do not fit together: {e}', 'finished': now()}
            write_json(folder / RESULT, result)
            say(f'{stage.name}: {place.name}/{folder.name} {words(result)}')
            continue
        specify(experiment, stage, triplet, folder, Candidate(config, trial=trial), cell)
        say(f'{stage.name}: {place.name}/{folder.name} is '
            + ', '.join(f'{k.rpartition(".")[2]} {_short(v)}' for k, v in trial['settings'].items()))
        yield folder


def trials(place: Path, search: Search) -> list[Trial]:
    """What has become of the candidates that a search proposed, in order, from their folders in `place`; ExperimentError if a
    file is damaged, or of another search.
    """
    out: list[Trial] = []
    while spec := read_json(place / name_of(len(out)) / SPEC):
        folder = place / name_of(len(out))
        result = read_json(folder / RESULT)
        state = 'running' if not result else 'fail' if 'error' in result else 'pruned' if 'pruned' in result else 'complete'
        out.append(Trial(_params(folder, spec, search), state, result.get('objective'), pruning.read(folder)))
    return out


def keep(experiment: Experiment, stage: Stage, triplet: int) -> None:
    """Writes what was found so far for Optuna's own tools; OSError if the disk refuses."""
    place, name = experiment.place(stage, triplet), f'{experiment.name}/{stage.name}/t{triplet}'
    there = trials(place, stage.search)
    if there:
        export(stage.search, direction(stage.objective.measure), name, there, place / JOURNAL)


def name_of(number: int) -> str:
    """Of the candidate that was proposed as the number-th, from 0 on."""
    return f'trial-{number:04d}'


def _params(folder: Path, spec: dict, search: Search) -> dict[str, Any]:
    params = spec.get('trial', {}).get('params')
    if not isinstance(params, dict) or set(params) != set(search.space):
        raise ExperimentError(f'{folder / SPEC}: damaged, or of another search')
    return params


def _short(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
