# SPDX-License-Identifier: Apache-2.0
"""Targets of `fuzz.py` that people write: cell, limits, learner settings, launch arguments."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import random
from collections.abc import Mapping
from pathlib import Path

import yaml
from fuzzing.mutate import mutate_text, mutate_tree, text_of
from fuzzing.target import Target

from chef_bringup import launching
from chef_bringup.graph import ArgumentError
from chef_control import devices
from chef_learning.config import LearnerConfig
from chef_task.cell import CellConfig
from chef_task.limits import Limits

ROOT = Path(__file__).resolve().parents[2]


def check_values(value, where: str = '') -> None:
    """Every number that was accepted must be one to reckon with."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, part in value.items():
            check_values(part, f'{where}.{key}')
    elif isinstance(value, (tuple, list)):
        for part in value:
            check_values(part, where)
    elif not isinstance(value, (str, Path, bool, type(None))) and not math.isfinite(value):
        raise AssertionError(f'{where} is {value!r}')


class Cell(Target):
    """config/cells/sim.yaml."""

    errors = (ValueError,)
    source, kind = ROOT / 'config/cells/sim.yaml', CellConfig

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.path = folder / self.source.name
        self.named = self.path.name
        self._text = self.source.read_text().replace('../robots', str(ROOT / 'config/robots'))
        self._tree = yaml.safe_load(self._text)
        if self.kind is CellConfig:
            full = {k: v for k, v in Limits().to_dict().items() if k != 'sensor_age_s'}
            self._tree['limits'] = {**full, **self._tree.get('limits', {})}

    def make(self, rng: random.Random) -> None:
        if rng.random() < 0.2:
            data = mutate_text(rng, self._text).encode('utf-8', 'surrogatepass')
        else:
            data = text_of(rng, mutate_tree(rng, self._tree), 'yaml')
        self.path.write_bytes(data)

    def load(self) -> None:
        check_values(self.kind.load(self.path))


class RealCell(Cell):
    """config/cells/sawyer.yaml, with the settings of its devices."""

    source = ROOT / 'config/cells/sawyer.yaml'

    def load(self) -> None:
        cell = CellConfig.load(self.path)
        check_values(dataclasses.replace(cell, devices={}))
        try:
            for place in devices.places(cell):
                check_values(devices.device_settings(cell, *place))
        except ValueError as e:
            raise ValueError(f'{self.path}: {e}') from None


class Learner(Cell):
    """config/learner/state.yaml."""

    source, kind = ROOT / 'config/learner/pixels.yaml', LearnerConfig


class Launch(Target):
    """The words after `./chef launch`, up to the nodes that they make."""

    errors = (ArgumentError,)

    def make(self, rng: random.Random) -> None:
        values = {'episodes': '4', 'output': str(self.folder / 'x'), 'triplet': '3', 'policy': 'my.module:Class', 'seed': '7',
                  'observation': 'state', 'speed': 'max', 'cell': 'config/cells/sim.yaml', 'namespace': 'cell_1/a',
                  'min_free_gib': '2.5', 'steps': '60', 'learner_config': ''}
        words = ['collect.launch.py', *(f'{k}:={v}' for k, v in values.items() if rng.random() < 0.5)]
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(words))
            kind = rng.randrange(6)
            if kind == 0:
                words.insert(at, rng.choice(('--grace=nan', '--grace', '-s', '--with', '--with=x', '--', '', 'x' * 9000, '-', '--x')))
            elif kind == 1:
                words.append(words[at])
            elif kind == 2:
                key = rng.choice(list(values))
                words.append(f'{key}:=' + rng.choice(('9' * 5000, '-1', '٣', 'nan', '1e999', '1_0', ' 7', '', 'x' * 5000, '../' * 900,
                                                      'a:b:c', "it's", '0x10', '{}', 'true', '\udcff')))
            else:
                words[at] = mutate_text(rng, words[at])
        self.words = words

    def load(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
            try:
                options, _, graph, values = launching.parse(self.words)
            except SystemExit as e:         # argparse's way to refuse: it has said why
                if e.code not in (0, 2) or 'Traceback' in err.getvalue():
                    raise AssertionError(f'status {e.code}: {err.getvalue()[-200:]}') from e
                raise ArgumentError('refused by argparse') from None
            graph.build(values)


TARGETS = {'cell-config': Cell, 'real-cell-config': RealCell, 'learner-config': Learner, 'launch-arguments': Launch}
