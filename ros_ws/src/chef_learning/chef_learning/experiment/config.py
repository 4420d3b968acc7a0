# SPDX-License-Identifier: Apache-2.0
"""experiment.yaml: what an experiment does, stage by stage; docs/experiments.md shows one."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chef_learning.config import OBSERVATIONS, LearnerConfig
from chef_learning.experiment.objective import EarlyStopping, Objective, check
from chef_learning.experiment.search import Search
from chef_task import yaml_file
from chef_task.rewards import MAIN_TASK, TASKS
from chef_task.settings import build, option
from chef_task.yaml_file import short

FILE = 'experiment.yaml'
COLLECTED = 'COLLECT'       # what COLLECT's last policy is called where it acts beside candidates
CELLS = ('simulated', 'ros', 'external')
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.=,+-]{0,80}')
TRIAL = re.compile(r'trial-(\d{4,})')       # names of candidates that a search proposes


@dataclass(frozen=True)
class Collect:
    """Cells fill the experiment with episodes while a learner trains beside them.

    In the file it may also have `changes`: dotted keys in which its learner differs from the experiment's.
    """

    episodes: int = option(1000, 'of every triplet', low=1, high=10**8)
    workers: int = option(1, 'processes, each with one cell', low=1, high=1024)
    steps: int = option(400, 'control steps an episode', low=1, high=10**6)
    updates_per_step: float = option(0.0, 'updates for each control step; 0: both as fast as they can', low=0)
    publish_s: float = option(10.0, 's between two policy versions', above=0)
    policy: str = option('learner', 'who acts: learner, random, scripted, or module:Class')
    cells: str = option('simulated', 'simulated: without a graph; ros: as many graphs as workers, on this machine; '
                        'external: whoever follows the storage', choices=CELLS)
    storage: str = option('', 'of external cells: a path or URL, to which the triplet is added as /t1')
    speed: str = option('max', 'of ros cells: max for lockstep, or 1', choices=('max', '1'))


@dataclass(frozen=True)
class _Training:
    jobs: int = option(1, 'candidates that train at a time', low=1, high=1024)
    cpus: float = option(1.0, 'processors of each: its threads, and what it takes of a Ray cluster', above=0, high=1024)
    gpus: float = option(0.0, 'what each takes of a Ray cluster\'s GPUs', low=0, high=1024)


@dataclass(frozen=True)
class Explore(_Training):
    """Candidates learn offline, each from all episodes that there are by then."""

    updates: int = option(10_000, 'of every candidate', low=1)


@dataclass(frozen=True)
class Execute:
    """Every candidate of the stage before acts, its trials mixed at random with those of the others."""

    episodes: int = option(200, 'of every candidate and triplet', low=1, high=10**6)
    workers: int = option(1, 'processes, each with one cell', low=1, high=1024)
    steps: int = option(400, 'control steps an episode', low=1, high=10**6)
    task: str = option(MAIN_TASK, 'whose policy acts, by its mean', choices=TASKS)
    cells: str = option('simulated', 'simulated: without a graph; ros: as many graphs as workers, on this machine; '
                        'external: whoever follows the storage', choices=CELLS)
    storage: str = option('', 'of external cells: a path or URL, to which the triplet is added as /t1')
    silent_s: float = option(60.0, 's without a sign of life of an external cell until others take its trials', above=0)
    speed: str = option('max', 'of ros cells: max for lockstep, or 1', choices=('max', '1'))
    references: bool = option(True, 'try beside, to compare: the last policy of COLLECT, and the best of the execute before')


@dataclass(frozen=True)
class Finetune(_Training):
    """The best of the candidates goes on, with half of every batch from COLLECT and half from EXECUTE."""

    updates: int = option(10_000, 'more than the best has had', low=1)
    scratch: tuple[float, ...] = option((1.0,), 'train from scratch on the same data beside, to compare: one for each of '
                                        'these multiples of `updates`', above=0, high=1000)


KINDS = {'collect': Collect, 'explore': Explore, 'execute': Execute, 'finetune': Finetune}


@dataclass(frozen=True)
class Stage:
    """One stage.

    number: from 1 on. values: its settings as given. learner: of a collect stage whose learner differs from the experiment's.
    Of explore: candidates: name to learner settings; search: what proposes more of them; objective: what is measured of each;
    stopping: when one is stopped early.
    """

    number: int
    kind: str
    settings: Collect | Explore | Execute | Finetune
    values: Mapping[str, Any]
    candidates: Mapping[str, LearnerConfig] = field(default_factory=dict)
    learner: LearnerConfig | None = None
    search: Search | None = None
    objective: Objective | None = None
    stopping: EarlyStopping | None = None

    @property
    def wanted(self) -> int:
        """Number of candidates of each triplet, of explore."""
        return len(self.candidates) + (self.search.trials if self.search else 0)

    @property
    def name(self) -> str:
        """Of its folder; what its episodes are called begins with it."""
        return f'{self.number:02d}_{self.kind}'


@dataclass(frozen=True)
class _Head:
    """What all stages share."""

    name: str = option('', 'of the experiment; its folder\'s if empty')
    seed: int = option(0, 'of everything random', low=0, high=2**31)
    triplets: tuple[int, ...] = option((1,), 'which objects; each has policies of its own', low=1, high=5)
    physics: str = option('fast', 'of the simulated cells', choices=('fast', 'exact'))
    observation: str = option('state', 'what policies see', choices=OBSERVATIONS)


@dataclass(frozen=True)
class ExperimentConfig:
    """All of experiment.yaml. learner: settings of COLLECT's learner, and those that candidates differ from."""

    head: _Head
    learner: LearnerConfig
    stages: tuple[Stage, ...]

    @classmethod
    def load(cls, folder: Path) -> ExperimentConfig:
        """Reads and checks the file; ValueError, one line, naming the file and the key."""
        path = folder / FILE
        values = yaml_file.load(path)
        try:
            return cls.from_dict(values)
        except ValueError as e:
            raise ValueError(f'{path}: {e}') from None

    @classmethod
    def from_dict(cls, values: Any) -> ExperimentConfig:
        """From a mapping; ValueError naming the key."""
        if not isinstance(values, Mapping):
            raise ValueError(f'the file must be a mapping of settings, not {short(values)}')
        rest = dict(values)
        learner, stages = rest.pop('learner', None), rest.pop('stages', None)
        head = build(_Head, rest)
        if not head.triplets or len(set(head.triplets)) < len(head.triplets):
            raise ValueError('triplets must be numbers from 1 to 5, each once')
        base = {**(learner or {})} if isinstance(learner or {}, Mapping) else learner
        config = _learner(base, 'learner')
        if config.observation != head.observation:
            raise ValueError(f'learner.observation is {config.observation}, observation is {head.observation}')
        if not isinstance(stages, list) or not stages:
            raise ValueError(f'stages must be a list of stages, not {short(stages)}')
        return cls(head, config, tuple(_stage(i + 1, s, base) for i, s in enumerate(stages))).checked()

    def checked(self) -> ExperimentConfig:
        """Itself; ValueError if a stage lacks what it needs from those before."""
        seen: list[str] = []
        for stage in self.stages:
            needs = {'explore': ('collect',), 'execute': ('collect',), 'finetune': ('explore', 'execute')}.get(stage.kind, ())
            for need in needs:
                if need not in seen:
                    raise ValueError(f'stages: {stage.kind} (number {stage.number}) needs an earlier {need}')
            _check_cells(stage)
            seen.append(stage.kind)
        return self


def _check_cells(stage: Stage) -> None:
    if stage.kind not in ('collect', 'execute'):
        return
    cells, where = stage.settings.cells, f'stages[{stage.number - 1}].{stage.kind}'
    if cells != 'simulated' and getattr(stage.settings, 'policy', '') == 'scripted':
        raise ValueError(f'{where}.policy: scripted acts in simulated cells only, not in cells: {cells}')
    if (cells == 'external') != bool(stage.settings.storage):
        raise ValueError(f'{where}.storage goes with cells: external, and that with a storage')


def _learner(values: Any, where: str) -> LearnerConfig:
    try:
        return LearnerConfig.from_dict(values)
    except ValueError as e:
        raise ValueError(f'{where}: {e}') from None


def _stage(number: int, entry: Any, base: Mapping) -> Stage:
    where = f'stages[{number - 1}]'
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ValueError(f'{where} must name one stage, not {short(entry)}')
    (kind, values), = entry.items()
    if kind not in KINDS:
        raise ValueError(f'{where}: there is no stage {short(kind)}, only {", ".join(KINDS)}')
    if values is not None and not isinstance(values, Mapping):
        raise ValueError(f'{where}.{kind} must be a mapping of settings, not {short(values)}')
    values, more = dict(values or {}), {}
    rest = dict(values)
    if kind == 'explore':
        where = f'{where}.explore'
        more = _explore(rest, base, where)
    if kind == 'collect' and rest.get('changes') is not None:
        where = f'{where}.collect'
        if not isinstance(changes := rest.pop('changes'), Mapping):
            raise ValueError(f'{where}.changes must be a mapping of settings, not {short(changes)}')
        more['learner'] = _learner(changed(base, changes), f'{where}.changes')
    try:
        return Stage(number, kind, build(KINDS[kind], rest), values, **more)
    except ValueError as e:
        raise ValueError(f'{where}: {e}') from None


def _explore(rest: dict[str, Any], base: Mapping, where: str) -> dict[str, Any]:
    """What a stage knows of an explore stage's candidates; takes the keys of it from `rest`."""
    search = objective = stopping = None
    if 'search' in rest:
        search = Search.parse(rest.pop('search'), lambda change: LearnerConfig.from_dict(changed(base, change)), f'{where}.search')
    grid, named = rest.pop('grid', None), rest.pop('candidates', None)
    found = candidates(grid, named, base, where) if grid or named or not search else {}
    clash = [name for name in found if TRIAL.fullmatch(name)] if search else []
    if clash:
        raise ValueError(f'{where}: {clash[0]} cannot be the name of a candidate beside a search, whose own have such names')
    if 'early_stopping' in rest:
        stopping = _built(EarlyStopping, rest.pop('early_stopping'), f'{where}.early_stopping')
    if 'objective' in rest or search or stopping:
        given = rest.pop('objective', None)
        objective = _built(Objective, {'measure': given} if isinstance(given, str) else given, f'{where}.objective')
    check(objective, stopping, _learner(base, 'learner'), found, search.space if search else (), where)
    return {'candidates': found, 'search': search, 'objective': objective, 'stopping': stopping}


def _built(cls: type, values: Any, where: str) -> Any:
    try:
        return build(cls, values)
    except ValueError as e:
        raise ValueError(f'{where}: {e}') from None


def candidates(grid: Any, named: Any, base: Mapping, where: str) -> dict[str, LearnerConfig]:
    """Name to settings of the candidates of an explore stage: all combinations of a grid, and those with a name.

    Args:
      grid: dotted key of the learner's settings to a list of values.
      named: name to a mapping of dotted keys to values.
      base: settings of the learner that they differ from.

    Raises:
      ValueError: naming the candidate.
    """
    for what, value in (('grid', grid), ('candidates', named)):
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f'{where}.{what} must be a mapping, not {short(value)}')
    grid, named = grid or {}, named or {}
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f'{where}.grid.{key} must be a list of values, not {short(values)}')
    changes: dict[str, Mapping] = {}
    for combination in itertools.product(*grid.values()) if grid else ():
        chosen = dict(zip(grid, combination))
        changes[','.join(f'{k.rpartition(".")[2]}={_plain(v)}' for k, v in chosen.items())] = chosen
    changes.update(named)
    out = {}
    for name, change in (changes or {'base': {}}).items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == COLLECTED:
            raise ValueError(f'{where}: {short(name)} cannot be the name of a candidate')
        if not isinstance(change, Mapping):
            raise ValueError(f'{where}.candidates.{name} must be a mapping of settings, not {short(change)}')
        out[name] = _learner(changed(base, change), f'{where}: candidate {name}')
    return out


def _plain(value: Any) -> str:
    return 'x'.join(map(str, value)) if isinstance(value, list) else str(value).lower()


def changed(base: Mapping, change: Mapping[str, Any]) -> dict:
    """Settings with some replaced, by dotted key such as network.torso."""
    out = copy.deepcopy(dict(base))
    for key, value in change.items():
        *path, last = str(key).split('.')
        place = out
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f'{key}: {part} is not a mapping')
        place[last] = value
    return out
