# SPDX-License-Identifier: Apache-2.0
"""The limits of a cell: on by default, checked at start, stored in every bag."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from chef_task.yaml_file import is_number, short

_SENSOR_AGE_S = {
    'joints': 0.1,
    'tcp_pose': 0.15,
    'tcp_twist': 0.15,
    'gripper': 0.2,
    'wrench': 0.1,
    'objects': 0.25,
    'basket_front_left': 0.25,
    'basket_front_right': 0.25,
    'basket_back_left': 0.25,
}


@dataclass(frozen=True)
class Limits:
    """What stops the arm. The values are the benchmark's; a cell's config may change them."""

    force_n: float = 20.0                  # N, wrist force that ends an episode (paper, section VI.D)
    command_age_s: float = 0.1             # s, an older command stops the arm
    sensor_age_s: Mapping[str, float] = field(default_factory=lambda: dict(_SENSOR_AGE_S))  # s, by stream
    policy_deadline_s: float = 0.048       # s, from the tick to the action, in real time: just under a period
    # box of the pinch point while a policy acts, robot base frame
    workspace_centre_m: tuple[float, float, float] = (0.6, 0.0, 0.1698)
    workspace_size_m: tuple[float, float, float] = (0.25, 0.25, 0.2)
    # the same during a reset, which starts episodes above the workspace
    reset_centre_m: tuple[float, float, float] = (0.6, 0.0, 0.26)
    reset_size_m: tuple[float, float, float] = (0.28, 0.34, 0.4)
    wrist_range_rad: float = math.pi / 2   # rad, either side of the gripper's neutral rotation
    joint_velocity_rad_s: tuple[float, ...] = (1.74, 1.328, 1.957, 1.957, 3.485, 3.485, 4.545)
    joint_velocity_scale: float = 0.95
    joint_margin_rad: float = 0.01         # rad, distance kept from the joints' limits

    def __post_init__(self):
        positive = {
            'force_n': self.force_n, 'command_age_s': self.command_age_s,
            'policy_deadline_s': self.policy_deadline_s, 'wrist_range_rad': self.wrist_range_rad,
            'joint_velocity_scale': self.joint_velocity_scale,
            **{f'sensor_age_s.{k}': v for k, v in self.sensor_age_s.items()},
            **{f'workspace_size_m[{i}]': v for i, v in enumerate(self.workspace_size_m)},
            **{f'reset_size_m[{i}]': v for i, v in enumerate(self.reset_size_m)},
            **{f'joint_velocity_rad_s[{i}]': v for i, v in enumerate(self.joint_velocity_rad_s)},
        }
        for name, value in positive.items():
            if not is_number(value) or value <= 0:
                raise ValueError(f'limits: {name} must be a positive number, not {short(value)}')
        for name in ('workspace_centre_m', 'reset_centre_m'):
            if not all(map(is_number, getattr(self, name))):
                raise ValueError(f'limits: {name} must hold numbers, not {short(getattr(self, name))}')
        if not is_number(self.joint_margin_rad) or self.joint_margin_rad < 0:
            raise ValueError('limits: joint_margin_rad must be a number of at least 0, '
                             f'not {short(self.joint_margin_rad)}')

    @classmethod
    def from_dict(cls, values: Mapping) -> Limits:
        """From a config's mapping; ValueError naming an unknown key or a bad value."""
        if not isinstance(values, Mapping):
            raise ValueError(f'limits: expected a mapping, not {short(values)}')
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known, key=str)
        if unknown:
            raise ValueError(f'limits: unknown key {short(unknown[0])}, known are {", ".join(sorted(known))}')
        values = dict(values)
        ages = dict(_SENSOR_AGE_S)
        given = values.pop('sensor_age_s', {})
        if not isinstance(given, Mapping):
            raise ValueError(f'limits: sensor_age_s must map streams to seconds, not {short(given)}')
        stray = sorted(set(given) - set(ages), key=str)
        if stray:
            raise ValueError(f'limits: sensor_age_s has unknown stream {short(stray[0])}')
        ages.update(given)
        for name in ('workspace_centre_m', 'workspace_size_m', 'reset_centre_m', 'reset_size_m',
                     'joint_velocity_rad_s'):
            if name in values:
                size = 7 if name.startswith('joint') else 3
                v = values[name]
                if not isinstance(v, (list, tuple)) or len(v) != size:
                    raise ValueError(f'limits: {name} must hold {size} numbers, not {short(v)}')
                values[name] = tuple(v)
        return cls(sensor_age_s=ages, **values)

    def to_dict(self) -> dict:
        """Plain values for JSON and YAML."""
        d = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in d.items()}
