# SPDX-License-Identifier: Apache-2.0
"""Streams of a cell, the 5-D action and the observation, with shapes and units.

The numbers are those of the RGB-stacking benchmark (google-deepmind/rgb_stacking).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONTROL_HZ = 20.0
CONTROL_PERIOD_NS = 50_000_000
EPISODE_STEPS = 400
JOINTS = tuple(f'right_j{i}' for i in range(7))
CAMERAS = ('basket_front_left', 'basket_front_right', 'basket_back_left')
OBJECTS = ('red', 'green', 'blue')
IMAGE_SHAPE = (128, 128, 3)

# Action: tool velocity x, y, z, wrist rotation, gripper velocity (positive closes), each in [-1, 1].
ACTION_NAMES = ('x', 'y', 'z', 'wrist', 'gripper')
ACTION_SIZE = len(ACTION_NAMES)
LINEAR_SPEED_M_S = 0.07
WRIST_SPEED_RAD_S = 1.0

# The object-detection flag of the Robotiq 2F-85.
GRASP_NONE, GRASP_INWARD, GRASP_OUTWARD = 1, 2, 3
GRIPPER_CLOSED = 255


@dataclass(frozen=True)
class Stream:
    """One sensor stream: where it is published and what one decoded sample holds.

    `fields` maps a field's name to its shape; all fields are float64 but images, which are uint8.
    """

    name: str
    topic: str
    msgtype: str
    fields: dict[str, tuple[int, ...]]

    @property
    def is_image(self) -> bool:
        return self.msgtype == 'sensor_msgs/msg/Image'


STREAMS: dict[str, Stream] = {
    s.name: s
    for s in (
        # rad, rad/s, N m
        Stream('joints', 'joint_states', 'sensor_msgs/msg/JointState',
               {'position': (7,), 'velocity': (7,), 'effort': (7,)}),
        # m and quaternion w x y z, in the robot's base frame
        Stream('tcp_pose', 'tcp_pose', 'geometry_msgs/msg/PoseStamped', {'pose': (7,)}),
        # m/s, rad/s
        Stream('tcp_twist', 'tcp_twist', 'geometry_msgs/msg/TwistStamped', {'twist': (6,)}),
        # 0 open .. 255 closed, 1/s, GRASP_*
        Stream('gripper', 'gripper/state', 'chef_msgs/msg/GripperState',
               {'position': (1,), 'velocity': (1,), 'grasp': (1,)}),
        # N, N m, in the sensor's frame
        Stream('wrench', 'wrench', 'geometry_msgs/msg/WrenchStamped', {'force': (3,), 'torque': (3,)}),
        # m and quaternion w x y z of red, green, blue, in the robot's base frame
        Stream('objects', 'objects', 'geometry_msgs/msg/PoseArray', {'poses': (3, 7)}),
        *(Stream(c, f'{c}/image', 'sensor_msgs/msg/Image', {'image': IMAGE_SHAPE}) for c in CAMERAS),
    )
}

PROPRIOCEPTION = ('joints', 'tcp_pose', 'tcp_twist', 'gripper', 'wrench')


def streams_of(observation: str) -> tuple[str, ...]:
    """Names of the streams that every Tick of a cell names.

    `objects` is always among them: rewards need it, whatever the policy sees.

    Args:
      observation: 'pixels' (with the three cameras) or 'state' (without).
    """
    if observation == 'state':
        return (*PROPRIOCEPTION, 'objects')
    if observation == 'pixels':
        return (*PROPRIOCEPTION, 'objects', *CAMERAS)
    raise ValueError(f"observation must be 'pixels' or 'state', not {observation!r}")


def check_action(action) -> np.ndarray:
    """The action as float32[5] clipped to [-1, 1]; ValueError for a wrong shape, NaN or infinity."""
    a = np.asarray(action, dtype=np.float32)
    if a.shape != (ACTION_SIZE,):
        raise ValueError(f'action has shape {a.shape}, expected ({ACTION_SIZE},)')
    if not np.all(np.isfinite(a)):
        raise ValueError(f'action is not finite: {a.tolist()}')
    return np.clip(a, -1.0, 1.0)
