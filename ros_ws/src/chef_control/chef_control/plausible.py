# SPDX-License-Identifier: Apache-2.0
"""What a sound sensor cannot say: ranges with units, unit quaternions, an image that is none. No ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from chef_task.limits import Limits
from chef_task.messages import Sample
from chef_task.spaces import GRASP_INWARD, GRASP_NONE, GRASP_OUTWARD, GRIPPER_CLOSED, JOINTS, STREAMS

JOINT_TOLERANCE_RAD = 0.1    # beyond the URDF's range: a joint that leans on its stop is not absurd
UNIT_TOLERANCE = 0.01        # of a quaternion's length
_UNITS = {'joints.position': 'rad', 'joints.velocity': 'rad/s', 'joints.effort': 'N m', 'tcp_pose.position': 'm',
          'tcp_twist.twist': 'm/s or rad/s', 'wrench.force': 'N', 'wrench.torque': 'N m', 'objects.position': 'm'}


JointRange = tuple[Sequence[float], Sequence[float]]     # lower and upper positions, rad, see `urdf.joint_range`


class Plausibility:
    """Checks one sample; a few microseconds, as every tick does it for every stream.

    Args:
      limits: `sensor_range` is used.
      joints: not checked if not given.
    """

    def __init__(self, limits: Limits, joints: JointRange | None = None):
        self._range = limits.sensor_range
        self._joints = joints and [(low - JOINT_TOLERANCE_RAD, high + JOINT_TOLERANCE_RAD) for low, high in zip(*joints)]
        self._checks = {'joints': self._check_joints, 'tcp_pose': self._check_pose, 'gripper': self._check_gripper,
                        'objects': self._check_objects}

    def fault(self, stream: str, sample: Sample) -> str:
        """What is wrong with a sample, for instance 'torque is 412 N m, its range ends at 50', or ''."""
        try:
            if STREAMS[stream].is_image:
                return self._check_image(sample)
            return self._checks.get(stream, lambda s: self._check_fields(stream, s))(sample)
        except ValueError as e:     # it cannot be decoded
            return str(e)

    def _check_fields(self, stream: str, sample: Sample, fields: tuple[str, ...] = ()) -> str:
        for field in fields or STREAMS[stream].fields:
            fault = self._check_values(f'{stream}.{field}', field, sample[field].ravel().tolist())
            if fault:
                return fault
        return ''

    def _check_values(self, key: str, name: str, values: list[float]) -> str:
        limit = self._range[key]
        for v in values:
            if not -limit <= v <= limit:
                unit = f' {_UNITS[key]}' if key in _UNITS else ''
                return f'{name} is {v:.4g}{unit}, its range ends at {limit:g}' if math.isfinite(v) \
                    else f'{name} is not finite'
        return ''

    def _check_joints(self, sample: Sample) -> str:
        for i, v in enumerate(sample['position'].tolist()):
            if not math.isfinite(v):
                return 'position is not finite'
            if self._joints and not self._joints[i][0] <= v <= self._joints[i][1]:
                return f'position of {JOINTS[i]} is {v:.3f} rad, beyond its range'
        return self._check_fields('joints', sample, ('velocity', 'effort'))

    def _check_pose(self, sample: Sample) -> str:
        return self._pose('tcp_pose', sample['pose'].tolist())

    def _check_objects(self, sample: Sample) -> str:
        for pose in sample['poses'].tolist():
            fault = self._pose('objects', pose)
            if fault:
                return fault
        return ''

    def _pose(self, stream: str, pose: list[float]) -> str:
        fault = self._check_values(f'{stream}.position', 'position', pose[:3])
        if not fault:
            length = math.sqrt(sum(q * q for q in pose[3:]))
            if not abs(length - 1.0) <= UNIT_TOLERANCE:
                fault = f'quaternion has length {length:.3g}' if math.isfinite(length) else 'quaternion is not finite'
        return fault

    def _check_gripper(self, sample: Sample) -> str:
        position, grasp = float(sample['position'][0]), float(sample['grasp'][0])
        if not 0.0 <= position <= GRIPPER_CLOSED:
            return f'position is {position:g}, not a register of 0..{GRIPPER_CLOSED}'
        if grasp not in (GRASP_NONE, GRASP_INWARD, GRASP_OUTWARD):
            return f'grasp flag is {grasp:g}, not 1, 2 or 3'
        return self._check_fields('gripper', sample, ('velocity',))

    @staticmethod
    def _check_image(sample: Sample) -> str:
        pixels = sample['image'].reshape(-1, 3)
        first = pixels[0]
        if (pixels[:32] == first).all() and (pixels == first).all():    # the whole only where a part says so
            return f'image is one colour, {tuple(first.tolist())}'
        return ''


def content(sample: Mapping) -> bytes:
    """All that a sample says but when it was taken; equal for samples that are equal bit for bit."""
    payload = getattr(sample, 'payload', None)
    return payload if payload is not None else b''.join(v.tobytes() for v in sample.values())
