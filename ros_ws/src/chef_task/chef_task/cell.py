# SPDX-License-Identifier: Apache-2.0
"""The configuration of a cell, from one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chef_task import yaml_file
from chef_task.limits import Limits
from chef_task.yaml_file import is_number, short

RATES_HZ = {'joints': 100.0, 'wrench': 100.0, 'tcp': 20.0, 'gripper': 20.0, 'objects': 20.0, 'render': 20.0}  # defaults
KINDS = ('simulated',)
RESETS = ('place', 'sweep')
GRIPPERS = ('bang_bang', 'velocity')


@dataclass(frozen=True)
class CellConfig:
    """One robot cell.

    kind: which drivers, 'simulated'. urdf: path of the arm's URDF with frames `tcp` and `pinch`.
    home_rad: [7], the joints' preferred posture. gripper: 'bang_bang' (the sign of the action opens or
    closes at full speed, as in the benchmark) or 'velocity'. reset: 'place' (the simulation puts the
    objects anew) or 'sweep' (the robot moves them). rates_hz: native rates of the simulated sensors.
    """

    kind: str
    urdf: Path
    home_rad: tuple[float, ...]
    gripper: str = 'bang_bang'
    reset: str = 'place'
    rates_hz: Mapping[str, float] = field(default_factory=lambda: dict(RATES_HZ))
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def load(cls, path: str | Path) -> CellConfig:
        """Reads and checks a file; ValueError naming the file and what is wrong in it."""
        path = Path(path)
        values = yaml_file.load(path)
        try:
            return cls._from_dict(values, path.parent)
        except ValueError as e:
            raise ValueError(f'{path}: {e}') from None

    @classmethod
    def _from_dict(cls, values, folder: Path) -> CellConfig:
        if not isinstance(values, Mapping):
            raise ValueError('expected a mapping of settings')
        known = set(cls.__dataclass_fields__)
        unknown = sorted(str(k) for k in set(values) - known)
        if unknown:
            raise ValueError(f'unknown key {short(unknown[0])}, known are {", ".join(sorted(known))}')
        for key in ('kind', 'urdf', 'home_rad'):
            if key not in values:
                raise ValueError(f'{key} is missing')
        values = dict(values)
        for key, choices in (('kind', KINDS), ('gripper', GRIPPERS), ('reset', RESETS)):
            if key in values and values[key] not in choices:
                raise ValueError(f'{key} must be one of {", ".join(choices)}, not {short(values[key])}')
        home = values['home_rad']
        if not isinstance(home, list) or len(home) != 7 or not all(map(is_number, home)):
            raise ValueError(f'home_rad must hold 7 numbers, not {short(home)}')
        values['home_rad'] = tuple(float(v) for v in home)
        urdf = values['urdf']
        try:
            values['urdf'] = (folder / urdf).resolve()
            found = values['urdf'].is_file()
        except (TypeError, ValueError, OSError, RuntimeError):      # no text, or one that no path can be
            found = False
        if not found:
            raise ValueError(f'urdf {short(urdf)} does not exist in {folder}')
        rates = dict(RATES_HZ)
        given = values.pop('rates_hz', None) or {}
        if not isinstance(given, Mapping):
            raise ValueError(f'rates_hz must map streams to Hz, not {short(given)}')
        for key, value in given.items():
            if key not in rates or not is_number(value) or not 1 <= value <= 1000:
                raise ValueError(f'rates_hz.{short(key)}: {short(value)} is not a rate of {", ".join(rates)} in 1..1000 Hz')
            rates[key] = float(value)
        limits = Limits.from_dict(values.pop('limits', None) or {})
        return cls(rates_hz=rates, limits=limits, **values)
