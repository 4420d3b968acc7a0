# SPDX-License-Identifier: Apache-2.0
"""What a sound sensor cannot say: values out of range, quaternions that are none, an empty image. No ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from chef_task.limits import Limits
from chef_task.messages import Sample
from chef_task.records import Reason
from chef_task.spaces import GRASP_INWARD, GRASP_NONE, GRASP_OUTWARD, GRIPPER_CLOSED

UNIT_TOLERANCE = 0.01        # of a quaternion's length
_UNITS = {'joints.effort': 'N m', 'tcp_pose.position': 'm', 'tcp_twist.twist': 'm/s or rad/s', 'objects.position': 'm'}


class Plausibility:
    """Checks one sample; some microseconds, as every tick does it for every stream.

    Joints and wrench are judged, and the fault is named, as the safety gate does it: it is a matter of
    milliseconds which of the two sees it first.

    Args:
      joint_range: lower and upper positions of the joints, rad, [7] each; not checked if not given.
    """

    def __init__(self, limits: Limits, joint_range: tuple[np.ndarray, np.ndarray] | None = None):
        self._limits = limits
        lower, upper = joint_range if joint_range is not None else (np.full(7, -math.inf), np.full(7, math.inf))
        self._lower = (lower - limits.joint_overrun_rad).tolist()
        self._upper = (upper + limits.joint_overrun_rad).tolist()
        self._speed = (limits.joint_overspeed * np.asarray(limits.joint_velocity_rad_s)).tolist()
        self._checks = {'joints': self._joints, 'tcp_pose': self._tcp_pose, 'tcp_twist': self._tcp_twist,
                        'gripper': self._gripper, 'wrench': self._wrench, 'objects': self._objects}

    def fault(self, stream: str, sample: Sample) -> str:
        """What is wrong with a sample, as an episode's reason, or ''."""
        try:
            fault = self._checks.get(stream, self._image)(sample)
        except ValueError as e:     # it cannot be decoded
            fault = str(e)
        if not fault or fault.startswith(Reason.LIMIT_VIOLATED.value):
            return fault
        return f'{Reason.BAD_SENSOR.value}:{stream} {fault}'

    def _within(self, key: str, values: list[float]) -> str:
        limit, name = self._limits.sensor_range[key], key.split('.')[1]
        for v in values:
            if not -limit <= v <= limit:
                unit = f' {_UNITS[key]}' if key in _UNITS else ''
                return f'{name} is {v:.4g}{unit}, its range ends at {limit:g}' if math.isfinite(v) \
                    else f'{name} is not finite'
        return ''

    def _joints(self, sample: Sample) -> str:
        position, velocity = sample['position'].tolist(), sample['velocity'].tolist()
        for name, values in (('position', position), ('velocity', velocity)):
            if not all(map(math.isfinite, values)):
                return f'{name} is not finite'
        for i, (q, v) in enumerate(zip(position, velocity)):
            if not self._lower[i] <= q <= self._upper[i]:
                return f'{Reason.LIMIT_VIOLATED.value}:joint {i} is at {q:.2f} rad'
            if abs(v) > self._speed[i]:
                return f'{Reason.LIMIT_VIOLATED.value}:joint {i} moves at {v:.2f} rad/s'
        return self._within('joints.effort', sample['effort'].tolist())

    def _wrench(self, sample: Sample) -> str:
        force, torque = math.hypot(*sample['force'].tolist()), math.hypot(*sample['torque'].tolist())
        if force <= self._limits.force_range_n and torque <= self._limits.torque_range_nm:
            return ''
        return f'of {force:.0f} N, {torque:.0f} N m'

    def _tcp_pose(self, sample: Sample) -> str:
        return self._pose('tcp_pose.position', sample['pose'].tolist())

    def _objects(self, sample: Sample) -> str:
        for pose in sample['poses'].tolist():
            fault = self._pose('objects.position', pose)
            if fault:
                return fault
        return ''

    def _pose(self, key: str, pose: list[float]) -> str:
        fault = self._within(key, pose[:3])
        if not fault:
            length = math.hypot(*pose[3:])
            if not abs(length - 1.0) <= UNIT_TOLERANCE:
                fault = f'quaternion has length {length:.3g}' if math.isfinite(length) else 'quaternion is not finite'
        return fault

    def _tcp_twist(self, sample: Sample) -> str:
        return self._within('tcp_twist.twist', sample['twist'].tolist())

    def _gripper(self, sample: Sample) -> str:
        position, grasp = float(sample['position'][0]), float(sample['grasp'][0])
        if not 0.0 <= position <= GRIPPER_CLOSED:
            return f'position is {position:g}, not a register of 0..{GRIPPER_CLOSED}'
        if grasp not in (GRASP_NONE, GRASP_INWARD, GRASP_OUTWARD):
            return f'grasp flag is {grasp:g}, not 1, 2 or 3'
        return self._within('gripper.velocity', sample['velocity'].tolist())

    @staticmethod
    def _image(sample: Sample) -> str:
        pixels = sample['image'].reshape(-1, 3)
        first = pixels[0]
        if (pixels[:32] == first).all() and (pixels == first).all():    # the whole only where a part says so
            return f'image is one colour, {tuple(first.tolist())}'
        return ''


def content(sample: Mapping) -> bytes:
    """All that a sample says but when it was taken; equal for samples that are equal bit for bit."""
    payload = getattr(sample, 'payload', None)
    return payload if payload is not None else b''.join(v.tobytes() for v in sample.values())
