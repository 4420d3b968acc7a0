# SPDX-License-Identifier: Apache-2.0
"""The configuration of a cell, from one YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chef_task import yaml_file
from chef_task.limits import Limits
from chef_task.spaces import CAMERAS, JOINTS
from chef_task.yaml_file import is_number, short

RATES_HZ = {'joints': 100.0, 'wrench': 100.0, 'tcp': 20.0, 'gripper': 20.0, 'objects': 20.0, 'render': 20.0}  # defaults
KINDS = ('simulated', 'real')
ROLES = ('arm', 'gripper', 'wrench', 'tracker')    # devices that every real cell has; further: cameras
RESETS = ('place', 'stir')
GRIPPERS = ('bang_bang', 'velocity')


@dataclass(frozen=True)
class Mount:
    """Where something is: its pose [7] (x y z, m, and quaternion w x y z) in a link of the URDF."""

    link: str = ''
    pose: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class CellConfig:
    """One robot cell.

    kind: which drivers, 'simulated' or 'real'. urdf: path of the arm's URDF, with frames `tcp` and `pinch` unless pinch
    says where the gripper is on the arm; the tcp is then where the Sawyer's flange would be with the same gripper.
    home_rad: [7], the joints' preferred posture. gripper: 'bang_bang' (the sign of the action opens or
    closes at full speed, as in the benchmark) or 'velocity'. reset: 'place' (the simulation puts the
    objects anew) or 'stir' (the robot moves them). rates_hz: native rates of the sensors, `render` being
    the cameras'. joints: names of the arm's joints in the URDF and to its driver, in the order of `home_rad`.

    Of a real cell: devices maps each of ROLES to {'driver': name, **settings}, and 'cameras' each camera's name to
    such a mapping; the settings are checked by what opens the device (`chef_control.devices`). calibration: path of
    the cameras' calibration, which need not exist before the cell is calibrated; None: none was named.
    """

    kind: str
    urdf: Path
    home_rad: tuple[float, ...]
    gripper: str = 'bang_bang'
    reset: str = 'place'
    rates_hz: Mapping[str, float] = field(default_factory=lambda: dict(RATES_HZ))
    limits: Limits = field(default_factory=Limits)
    joints: tuple[str, ...] = JOINTS
    pinch: Mount | None = None
    devices: Mapping[str, Mapping] = field(default_factory=dict)
    calibration: Path | None = None

    @property
    def real(self) -> bool:
        """Whether its devices are hardware, or fakes that speak as the hardware does."""
        return self.kind == 'real'

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
        if any(abs(v) > 2 * math.pi for v in home):
            raise ValueError(f'home_rad holds {short(max(home, key=abs))}, beyond a turn: it is in rad, not in degrees')
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
                raise ValueError(f'rates_hz.{short(key)}: {short(value)} is not a rate of '
                                 f'{", ".join(rates)} in 1..1000 Hz')
            rates[key] = float(value)
        limits = Limits.from_dict(values.pop('limits', None) or {})
        if 'joints' in values:
            values['joints'] = _joints(values['joints'])
        if values.get('pinch') is not None:
            values['pinch'] = _mount('pinch', values['pinch'])
        _check_devices(values)
        if values.get('calibration') is not None:
            if not isinstance(values['calibration'], str) or not values['calibration'].strip('\0 '):
                raise ValueError(f'calibration must be a path, not {short(values["calibration"])}')
            try:
                values['calibration'] = (folder / values['calibration']).resolve()
            except (ValueError, OSError, RuntimeError):
                raise ValueError(f'calibration must be a path, not {short(values["calibration"])}') from None
        return cls(rates_hz=rates, limits=limits, **values)


def _joints(names) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) != 7 or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f'joints must hold the names of 7 joints, not {short(names)}')
    if len(set(names)) != len(names):
        raise ValueError(f'joints names one joint twice: {short(names)}')
    return tuple(names)


def _mount(key: str, value) -> Mount:
    pose = value.get('pose', list(Mount.pose)) if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or set(value) - {'link', 'pose'} \
            or not isinstance(value.get('link'), str) or not value['link']:
        raise ValueError(f'{key} must be a mapping of link, and perhaps pose, not {short(value)}')
    if not isinstance(pose, list) or len(pose) != 7 or not all(map(is_number, pose)) \
            or abs(math.hypot(*pose[3:]) - 1.0) > 1e-3:
        raise ValueError(f'{key}.pose must be x y z, in m, and a unit quaternion w x y z, not {short(pose)}')
    return Mount(value['link'], tuple(float(v) for v in pose))


def _check_devices(values: dict) -> None:
    """Roles and shape only; the settings are the devices' own."""
    devices = values.setdefault('devices', {})
    if values['kind'] != 'real':
        for key in ('devices', 'calibration'):
            if values.get(key):
                raise ValueError(f'{key}: only a cell of kind real has them')
        values['devices'] = {}
        return
    values.setdefault('reset', 'stir')
    if not isinstance(devices, Mapping):
        raise ValueError(f'devices must map {", ".join(ROLES)}, cameras to their settings, not {short(devices)}')
    for role in devices:
        if role not in (*ROLES, 'cameras'):
            raise ValueError(f'devices: unknown key {short(role)}, known are {", ".join(ROLES)}, cameras')
    cameras = devices.get('cameras') or {}
    if not isinstance(cameras, Mapping):
        raise ValueError(f'devices.cameras must map {", ".join(CAMERAS)} to their settings, not {short(cameras)}')
    for name in cameras:
        if name not in CAMERAS:
            raise ValueError(f'devices.cameras: unknown key {short(name)}, known are {", ".join(CAMERAS)}')
    for role in ROLES:
        if role not in devices:
            raise ValueError(f'devices.{role} is missing')
    each = {f'devices.{role}': devices[role] for role in ROLES}
    for where, device in (each | {f'devices.cameras.{name}': v for name, v in cameras.items()}).items():
        if not isinstance(device, Mapping) or not isinstance(device.get('driver'), str):
            raise ValueError(f'{where} must be a mapping with a driver, not {short(device)}')
    values['devices'] = {**devices, 'cameras': cameras}
