# SPDX-License-Identifier: Apache-2.0
"""A search over settings of the learner by Optuna: what may be varied, and which candidate is tried next.

    search:
      space:
        network.torso: [[64], [256, 256]]                                # one of these
        optimizer.critic_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
        mpo.action_samples: {low: 5, high: 30, step: 5}
      trials: 20
      sampler: tpe

What is tried next is a function of the seed and of what lies in the candidates' folders, of nothing else: so a search that
was killed goes on as if it had not been, and no state of Optuna's need be kept.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from chef_learning.config import LearnerConfig
from chef_task.settings import build, option
from chef_task.yaml_file import short

SAMPLERS = ('tpe', 'gp', 'qmc', 'random')
JOURNAL = 'study.journal'
_RANGE = ('low', 'high', 'log', 'step')


@dataclass(frozen=True)
class Parameter:
    """One setting that is varied. kind: choice, int or float. choices: as JSON, since lists are among them."""

    kind: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None

    def value(self, found: Any) -> Any:
        """The setting that Optuna's value stands for."""
        return json.loads(found) if self.kind == 'choice' else found


@dataclass(frozen=True)
class _Settings:
    trials: int = option(20, 'candidates that are tried, for every triplet', low=1, high=100_000)
    sampler: str = option('tpe', 'who chooses what to try: tpe or gp, by what the candidates before gave; qmc, evenly spread; '
                          'random', choices=SAMPLERS)


@dataclass(frozen=True)
class Search(_Settings):
    """A search. space: dotted key of the learner's settings to what it may be."""

    space: Mapping[str, Parameter] = field(default_factory=dict)

    @classmethod
    def parse(cls, values: Any, check: Callable[[Mapping[str, Any]], Any], where: str) -> Search:
        """From what experiment.yaml says.

        Args:
          check: raises ValueError unless these settings, by dotted key, can be changed so.

        Raises:
          ValueError: naming the key.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f'{where} must be a mapping of settings, not {short(values)}')
        rest = dict(values)
        space = rest.pop('space', None)
        if not isinstance(space, Mapping) or not space:
            raise ValueError(f'{where}.space must be a mapping of settings to what they may be, not {short(space)}')
        try:
            settings = build(_Settings, rest)
        except ValueError as e:
            raise ValueError(f'{where}: {e}') from None
        found = {}
        for key, given in space.items():
            try:
                found[key] = _parameter(key, given, check)
            except ValueError as e:
                raise ValueError(f'{where}.space.{short(key)[1:-1]}: {e}') from None
        return cls(settings.trials, settings.sampler, found)


def _parameter(key: Any, given: Any, check: Callable) -> Parameter:
    kind = _kind(key)
    if isinstance(given, Mapping) and set(given) == {'choices'}:
        given = given['choices']
    if isinstance(given, list):
        if not given:
            raise ValueError('there must be something to choose from')
        for value in given:
            check({key: value})
        choices = [json.dumps(v) for v in given]
        if len(set(choices)) < len(choices):
            raise ValueError(f'{short(given)} names a choice twice')
        return Parameter('choice', tuple(choices))
    if not isinstance(given, Mapping) or not {'low', 'high'} <= set(given) <= set(_RANGE):
        raise ValueError(f'must be a list of choices, or a mapping of low, high and perhaps log or step, not {short(given)}')
    if kind not in (int, float):
        raise ValueError('is no number: it needs a list of choices')
    low, high, step = (_number(kind, name, given[name]) if given.get(name) is not None else None
                       for name in ('low', 'high', 'step'))
    log = given.get('log', False)
    if not isinstance(log, bool):
        raise ValueError(f'log must be true or false, not {short(log)}')
    if low is None or high is None or low > high:
        raise ValueError(f'low must be at most high, not {short(given["low"])} and {short(given["high"])}')
    if log and (low <= 0 or step is not None):
        raise ValueError('log needs a low above 0, and no step')
    if step is not None and not 0 < step <= max(high - low, 0):
        raise ValueError(f'step must be above 0 and within low and high, not {short(step)}')
    for value in (low, high):
        check({key: value})
    return Parameter(kind.__name__, (), low, high, log, step)


def _kind(key: Any) -> type:
    """Type of a setting; ValueError if there is none of this name."""
    cls: Any = LearnerConfig
    for part in str(key).split('.'):
        hints = get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
        if part not in hints:
            raise ValueError('there is no such setting of the learner (docs/learner.md)')
        cls = hints[part]
    if dataclasses.is_dataclass(cls):
        raise ValueError('is a group of settings: name one of them')
    return cls


def _number(kind: type, name: str, value: Any) -> float:
    try:
        # YAML 1.1 reads 1e-4 (no dot) as text
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not np.isfinite(number) or abs(number) >= 2**53:
        raise ValueError(f'{name} must be a number, not {short(value)}')
    if kind is int and number != int(number):
        raise ValueError(f'{name} must be a whole number, not {short(value)}')
    return kind(number)


@dataclass(frozen=True)
class Trial:
    """What became of a candidate that was proposed.

    params: Optuna's values by dotted key. state: running, complete, pruned or fail. value: of the objective. reports: its
    values on the way, by update.
    """

    params: Mapping[str, Any]
    state: str = 'running'
    value: float | None = None
    reports: Mapping[int, float] = field(default_factory=dict)


def propose(search: Search, direction: str, seed: int, trials: Sequence[Trial]) -> dict[str, Any]:
    """Optuna's values of the next candidate, by dotted key: a function of the arguments.

    Args:
      direction: 'maximize' or 'minimize', as Optuna says it.
      trials: those before, in the order in which they were proposed.
    """
    optuna = _optuna()
    own = int(np.random.SeedSequence([seed, len(trials)]).generate_state(1)[0])
    distributions = _distributions(search)
    if search.sampler == 'qmc':     # a sequence of its own, of which this is one point
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.QMCSampler(seed=seed, scramble=True)
        study = optuna.create_study(direction=direction, sampler=sampler)
        for _ in trials:
            study.ask(distributions)
        return study.ask(distributions).params
    samplers = {'tpe': optuna.samplers.TPESampler, 'gp': optuna.samplers.GPSampler, 'random': optuna.samplers.RandomSampler}
    study = optuna.create_study(direction=direction, sampler=samplers[search.sampler](seed=own))
    add(study, search, trials)
    return study.ask(distributions).params


def add(study, search: Search, trials: Sequence[Trial]) -> None:
    """Tells an Optuna study of trials."""
    optuna = _optuna()
    distributions = _distributions(search)
    for trial in trials:
        state = optuna.trial.TrialState[trial.state.upper()]
        study.add_trial(optuna.trial.create_trial(
            state=state, value=trial.value if trial.state == 'complete' else None, params=dict(trial.params),
            distributions=distributions, intermediate_values=dict(trial.reports)))


def _distributions(search: Search) -> dict:
    d = _optuna().distributions
    return {key: d.CategoricalDistribution(p.choices) if p.kind == 'choice' else
            d.IntDistribution(int(p.low), int(p.high), p.log, int(p.step or 1)) if p.kind == 'int' else
            d.FloatDistribution(p.low, p.high, p.log, p.step) for key, p in search.space.items()}


def _optuna():
    import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def export(search: Search, direction: str, name: str, trials: Sequence[Trial], path: Path) -> None:
    """Writes the trials as a study that Optuna and its dashboard open, a JournalStorage; OSError if the disk refuses."""
    optuna = _optuna()
    from optuna.storages.journal import JournalFileBackend
    folder = path.with_name(f'.{path.name}.partial')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / path.name)))
        add(optuna.create_study(storage=storage, study_name=name, direction=direction), search, trials)
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
