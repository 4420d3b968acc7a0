# SPDX-License-Identifier: Apache-2.0
"""Early stopping: a candidate looks at what the others beside it have reported, and decides by Optuna's rules.

What each reported lies in its own folder, so whoever looks needs no message from anybody: on this machine, on others that
share the folder, and after a stop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from chef_learning.experiment.folder import RESULT, ExperimentError, read_json
from chef_learning.experiment.objective import EarlyStopping, direction
from chef_learning.experiment.search import Trial
from chef_task.whole_file import write_text

REPORTS = 'reports.jsonl'


def read(folder: Path) -> dict[int, float]:
    """Updates to value, of a candidate's looks; {} if there was none. ExperimentError if the file is damaged."""
    try:
        lines = (folder / REPORTS).read_text(encoding='utf-8').splitlines()
        return {int(v['update']): float(v['value']) for v in map(json.loads, lines)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ExperimentError(f'{folder / REPORTS}: damaged: {e}') from None


def append(folder: Path, update: int, value: float) -> dict[int, float]:
    """Notes a look; returns all. OSError if the disk refuses."""
    found = {**read(folder), update: value}
    write_text(folder / REPORTS, ''.join(json.dumps({'update': u, 'value': v}) + '\n' for u, v in found.items()))
    return found


def beside(folder: Path) -> list[Trial]:
    """What the other candidates of the same stage and triplet have come to, sorted by name."""
    out = []
    for other in sorted(p for p in folder.parent.iterdir() if p != folder and (p / REPORTS).exists()):
        result = read_json(other / RESULT)
        state = 'running' if not result else 'fail' if 'error' in result else 'pruned' if 'pruned' in result else 'complete'
        out.append(Trial({}, state, result.get('objective'), read(other)))
    return out


def reason(stopping: EarlyStopping, measure: str, own: Mapping[int, float], others: Sequence[Trial]) -> str:
    """Why a candidate is to be stopped after its newest report; '' if it is not."""
    import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    way, update = direction(measure), max(own)
    if stopping.rule == 'median':
        pruner = optuna.pruners.MedianPruner(stopping.startup, stopping.after)
        others = [t for t in others if t.state == 'complete' and t.reports]
    else:
        pruner = optuna.pruners.SuccessiveHalvingPruner(stopping.every, stopping.factor)
    study = optuna.create_study(direction=way, pruner=pruner)

    def add(trial: Trial, state) -> None:
        study.add_trial(optuna.trial.create_trial(state=state, value=_last(trial.reports) if state.is_finished() else None,
                                                  intermediate_values=dict(trial.reports)))
    states = optuna.trial.TrialState
    if stopping.rule == 'median':
        for trial in others:
            add(trial, states.COMPLETE)
        if not _prunes(study, pruner, optuna, own):
            return ''
        there = [t.reports[update] for t in others if update in t.reports]
        return (f'after {update} updates its {measure} {_best(way, own):.4g} was worse than the median '
                f'{median(there):.4g} of {len(there)} candidates')
    # a rung is what the pruner writes down when it is asked: so it is asked again for all others
    for trial in others:
        _prunes(study, pruner, optuna, trial.reports)
    if not _prunes(study, pruner, optuna, own):
        return ''
    there = [t.reports[update] for t in others if update in t.reports]
    return (f'after {update} updates its {measure} {own[update]:.4g} was not among the best 1/{stopping.factor} of '
            f'{len(there) + 1} candidates')


def _prunes(study, pruner, optuna, reports: Mapping[int, float]) -> bool:
    """Whether the rule stops one with these reports at its newest."""
    out, shown = False, {}
    trial = study.ask()
    for update in sorted(reports):
        shown[update] = reports[update]
        trial.report(reports[update], update)
        out = trial.should_prune()
    return out


def _last(reports: Mapping[int, float]) -> float:
    return reports[max(reports)]


def _best(way: str, reports: Mapping[int, float]) -> float:
    return (min if way == 'minimize' else max)(reports.values())
