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

# Real sensors have noise: bits that repeat come from a device or a driver that hangs. A gripper's register
# does repeat at rest, so it has no such limit.
_FROZEN_S = {
    'joints': 0.5,
    'tcp_pose': 0.5,
    'tcp_twist': 0.5,
    'gripper': 0.0,
    'wrench': 0.5,
    'objects': 1.0,
    'basket_front_left': 0.5,
    'basket_front_right': 0.5,
    'basket_back_left': 0.5,
}
_SENSOR_RANGE = {
    'joints.effort': 300.0,      # N m
    'tcp_pose.position': 2.0,    # m, along each axis of the base frame
    'tcp_twist.twist': 10.0,     # m/s and rad/s
    'gripper.velocity': 5000.0,  # of the register, 1/s
    'objects.position': 3.0,     # m, along each axis of the base frame
}
_BY_NAME = {'sensor_age_s': _SENSOR_AGE_S, 'frozen_s': _FROZEN_S, 'sensor_range': _SENSOR_RANGE}


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
    # the same during a reset: it starts episodes above the workspace, and fetches what fingers at the workspace's edge
    # have pushed up the basket's slopes, to 0.2 m from its middle
    reset_centre_m: tuple[float, float, float] = (0.6, 0.0, 0.26)
    reset_size_m: tuple[float, float, float] = (0.4, 0.4, 0.4)
    wrist_range_rad: float = math.pi / 2   # rad, either side of the gripper's neutral rotation
    wrist_neutral_rad: float = 0.0         # rad, position of the last joint where the gripper's rotation is neutral
    joint_velocity_rad_s: tuple[float, ...] = (1.74, 1.328, 1.957, 1.957, 3.485, 3.485, 4.545)
    joint_velocity_scale: float = 0.95
    joint_margin_rad: float = 0.01         # rad, distance kept from the joints' limits
    # what is measured, as the safety gate checks it: beyond these the arm is not where it was sent, or a sensor lies
    joint_overrun_rad: float = 0.05        # rad, beyond the URDF's range of a joint
    joint_overspeed: float = 1.5           # times joint_velocity_rad_s
    force_range_n: float = 1000.0          # N, what a wrist sensor can measure at all
    torque_range_nm: float = 100.0         # N m, the same
    # what a sound sensor cannot do, see chef_control.stream_watch
    frozen_s: Mapping[str, float] = field(default_factory=lambda: dict(_FROZEN_S))  # s, by stream; 0: no limit
    # m, the pinch point moves no further, within a box where every camera sees it, while a camera's frames stay the same
    frozen_motion_m: float = 0.02
    camera_view_centre_m: tuple[float, float, float] = (0.6, 0.0, 0.095)
    camera_view_size_m: tuple[float, float, float] = (0.25, 0.25, 0.09)
    sensor_range: Mapping[str, float] = field(default_factory=lambda: dict(_SENSOR_RANGE))  # largest magnitude
    clock_tolerance_s: float = 0.05        # s, a stamp ahead of the clock, or the clock's own jump

    def __post_init__(self):
        positive = {
            'force_n': self.force_n, 'command_age_s': self.command_age_s,
            'policy_deadline_s': self.policy_deadline_s, 'wrist_range_rad': self.wrist_range_rad,
            'joint_velocity_scale': self.joint_velocity_scale, 'joint_overspeed': self.joint_overspeed,
            'force_range_n': self.force_range_n, 'torque_range_nm': self.torque_range_nm,
            **{f'sensor_age_s.{k}': v for k, v in self.sensor_age_s.items()},
            'frozen_motion_m': self.frozen_motion_m, 'clock_tolerance_s': self.clock_tolerance_s,
            **{f'sensor_range.{k}': v for k, v in self.sensor_range.items()},
            **{f'workspace_size_m[{i}]': v for i, v in enumerate(self.workspace_size_m)},
            **{f'camera_view_size_m[{i}]': v for i, v in enumerate(self.camera_view_size_m)},
            **{f'reset_size_m[{i}]': v for i, v in enumerate(self.reset_size_m)},
            **{f'joint_velocity_rad_s[{i}]': v for i, v in enumerate(self.joint_velocity_rad_s)},
        }
        for name, value in positive.items():
            if not is_number(value) or value <= 0:
                raise ValueError(f'limits: {name} must be a positive number, not {short(value)}')
        least_zero = {'joint_margin_rad': self.joint_margin_rad, 'joint_overrun_rad': self.joint_overrun_rad,
                      **{f'frozen_s.{k}': v for k, v in self.frozen_s.items()}}
        for name, value in least_zero.items():
            if not is_number(value) or value < 0:
                raise ValueError(f'limits: {name} must be a number of at least 0, not {short(value)}')
        for name in ('workspace_centre_m', 'reset_centre_m', 'camera_view_centre_m'):
            if not all(map(is_number, getattr(self, name))):
                raise ValueError(f'limits: {name} must hold numbers, not {short(getattr(self, name))}')
        if not is_number(self.wrist_neutral_rad):
            raise ValueError(f'limits: wrist_neutral_rad must be a number, not {short(self.wrist_neutral_rad)}')
        if self.force_range_n <= self.force_n:
            raise ValueError(f'limits: force_range_n must exceed force_n, not {self.force_range_n!r}')

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
        for name, default in _BY_NAME.items():
            given = values.get(name, {})
            if not isinstance(given, Mapping):
                raise ValueError(f'limits: {name} must map {", ".join(default)} to numbers, not {short(given)}')
            stray = sorted(str(k) for k in set(given) - set(default))
            if stray:
                raise ValueError(f'limits: {name} has unknown key {short(stray[0])}, known are {", ".join(default)}')
            values[name] = {**default, **given}
        for name in ('workspace_centre_m', 'workspace_size_m', 'reset_centre_m', 'reset_size_m',
                     'camera_view_centre_m', 'camera_view_size_m', 'joint_velocity_rad_s'):
            if name in values:
                size = 7 if name.startswith('joint') else 3
                v = values[name]
                if not isinstance(v, (list, tuple)) or len(v) != size:
                    raise ValueError(f'limits: {name} must hold {size} numbers, not {short(v)}')
                values[name] = tuple(v)
        return cls(**values)

    def tightened(self, force_n: float, speed_scale: float) -> Limits:
        """These limits with a lower force, N, and joint speeds times `speed_scale`; ValueError if either is looser."""
        if not 0 < force_n <= self.force_n:
            raise ValueError(f'the force limit can only be lowered, within 0..{self.force_n:g} N: not to {force_n:g} N')
        if not 0 < speed_scale <= 1:
            raise ValueError(f'the joint speeds can only be lowered, by a factor within 0..1: not {speed_scale:g}')
        speeds = tuple(v * speed_scale for v in self.joint_velocity_rad_s)
        return dataclasses.replace(self, force_n=force_n, joint_velocity_rad_s=speeds)

    def is_tighter_than(self, other: Limits) -> bool:
        """Whether nothing is allowed here that `other` forbids; true of equal limits."""
        lower = ('force_n', 'command_age_s', 'policy_deadline_s', 'wrist_range_rad', 'joint_velocity_scale',
                 'joint_overrun_rad', 'joint_overspeed', 'force_range_n', 'torque_range_nm', 'frozen_motion_m',
                 'clock_tolerance_s')
        return (all(getattr(self, name) <= getattr(other, name) for name in lower)
                and self.joint_margin_rad >= other.joint_margin_rad
                and (abs(self.wrist_neutral_rad - other.wrist_neutral_rad)
                     <= other.wrist_range_rad - self.wrist_range_rad + 1e-9)
                and all(age <= other.sensor_age_s[s] for s, age in self.sensor_age_s.items())
                and all((s or math.inf) <= (other.frozen_s[k] or math.inf) for k, s in self.frozen_s.items())
                and all(most <= other.sensor_range[k] for k, most in self.sensor_range.items())
                and all(a <= b for a, b in zip(self.joint_velocity_rad_s, other.joint_velocity_rad_s))
                and _inside(self.workspace_centre_m, self.workspace_size_m,
                            other.workspace_centre_m, other.workspace_size_m)
                and _inside(self.reset_centre_m, self.reset_size_m, other.reset_centre_m, other.reset_size_m))

    def to_dict(self) -> dict:
        """Plain values for JSON and YAML."""
        d = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in d.items()}


def _inside(centre, size, outer_centre, outer_size) -> bool:
    """Whether a box lies within another one; centre and size: [3] m."""
    return all(abs(c - oc) <= (os - s) / 2 + 1e-9 for c, s, oc, os in zip(centre, size, outer_centre, outer_size))
