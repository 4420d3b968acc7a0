# SPDX-License-Identifier: Apache-2.0
"""The one observation builder, for the live policy and for the bag.

`features` turns one tick's samples into the features of one step; `History` stacks the last steps.
Replay stores single-step features and stacks at sampling; the policy node stacks as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chef_task import geometry
from chef_task.messages import Sample
from chef_task.rewards import RewardInputs
from chef_task.spaces import ACTION_SIZE, CAMERAS, IMAGE_SHAPE, OBJECTS

# Pose of the pinch point (between the finger tips) in the TCP frame, x y z qw qx qy qz. The TCP is, as in
# the public benchmark, the Sawyer's last flange; force sensor and gripper are between the two.
PINCH_FROM_TCP = np.array([0.0, 0.0, 0.2012, np.sqrt(0.5), 0.0, 0.0, -np.sqrt(0.5)])


@dataclass(frozen=True)
class Field:
    """One feature: shape of a single step, dtype, group, and how many steps the policy sees."""

    shape: tuple[int, ...]
    dtype: str
    group: str
    history: int


def _field(size: int, group: str, history: int = 3) -> Field:
    return Field((size,), 'float32', group, history)


# History lengths are those of the public benchmark: 3 of proprioception, 2 of action, 1 of images.
FIELDS: dict[str, Field] = {
    'joint_angle': _field(7, 'proprioception'),        # rad
    'joint_velocity': _field(7, 'proprioception'),     # rad/s
    'joint_torque': _field(7, 'haptics'),              # N m
    'pinch_pose': _field(7, 'proprioception'),         # m, quaternion w x y z
    'tcp_pose': _field(7, 'proprioception'),           # m, quaternion w x y z
    'tcp_velocity': _field(6, 'proprioception'),       # m/s, rad/s
    'gripper_position': _field(1, 'proprioception'),   # 0 open .. 1 closed (register / 255)
    'gripper_velocity': _field(1, 'proprioception'),   # full strokes per second
    'gripper_grasp': _field(1, 'proprioception'),      # 1 none, 2 inward, 3 outward
    'wrist_force': _field(3, 'haptics'),               # N
    'wrist_torque': _field(3, 'haptics'),              # N m
    'last_action': _field(ACTION_SIZE, 'action', 2),   # [-1, 1]
    **{f'{c}_pose': _field(7, 'objects') for c in OBJECTS},             # m, quaternion w x y z
    **{f'{c}_to_pinch': _field(7, 'objects') for c in OBJECTS},         # that less pinch_pose, by component
    **{f'image_{c}': Field(IMAGE_SHAPE, 'uint8', 'images', 1) for c in CAMERAS},
}


def fields_of(observation: str, haptics: bool = True) -> dict[str, Field]:
    """The features a policy is given.

    Args:
      observation: 'pixels' (images, no object poses) or 'state' (object poses, no images).
      haptics: with wrist and joint forces and torques.
    """
    groups = {'proprioception', 'action', 'images' if observation == 'pixels' else 'objects'}
    if observation not in ('pixels', 'state'):
        raise ValueError(f"observation must be 'pixels' or 'state', not {observation!r}")
    if haptics:
        groups.add('haptics')
    return {k: f for k, f in FIELDS.items() if f.group in groups}


def features(samples: Mapping[str, Sample], last_action) -> dict[str, np.ndarray]:
    """All features of one step that the samples allow, shapes and dtypes as in FIELDS.

    Args:
      samples: stream name to sample (see `messages.decode`), the ones the Tick names.
      last_action: [5], the action of the previous tick.
    """
    joints, tcp = samples['joints'], samples['tcp_pose']['pose']
    gripper, wrench = samples['gripper'], samples['wrench']
    pinch = geometry.compose(tcp, PINCH_FROM_TCP)
    out = {
        'joint_angle': joints['position'],
        'joint_velocity': joints['velocity'],
        'joint_torque': joints['effort'],
        'pinch_pose': pinch,
        'tcp_pose': tcp,
        'tcp_velocity': samples['tcp_twist']['twist'],
        'gripper_position': gripper['position'] / 255.0,
        'gripper_velocity': gripper['velocity'] / 255.0,
        'gripper_grasp': gripper['grasp'],
        'wrist_force': wrench['force'],
        'wrist_torque': wrench['torque'],
        'last_action': np.asarray(last_action),
    }
    if 'objects' in samples:
        poses = samples['objects']['poses']
        for i, colour in enumerate(OBJECTS):
            out[f'{colour}_pose'] = poses[i]
            out[f'{colour}_to_pinch'] = poses[i] - pinch
    out = {k: np.asarray(v, np.float32) for k, v in out.items()}
    for camera in CAMERAS:
        if camera in samples:
            out[f'image_{camera}'] = samples[camera]['image']
    return out


def reward_inputs(samples: Mapping[str, Sample]) -> RewardInputs:
    """What the rewards need, from one tick's samples."""
    poses = samples['objects']['poses']
    pinch = geometry.compose(samples['tcp_pose']['pose'], PINCH_FROM_TCP)
    gripper = samples['gripper']
    return RewardInputs(red=poses[0, :3], blue=poses[2, :3], pinch=pinch[:3],
                        gripper=gripper['position'][0], grasp=gripper['grasp'][0])


class History:
    """Stacks the features of the last steps, oldest first; the first step fills the past.

    `push` returns key -> [history, *shape] for the keys asked for; images, whose history is 1, come
    without that axis.
    """

    def __init__(self, observation: str, haptics: bool = True):
        self.fields = fields_of(observation, haptics)
        self.reset()

    def reset(self) -> None:
        """Forgets the past; call it before an episode's first step."""
        self._past: np.ndarray | None = None    # [longest history, all features that are stacked]

    def push(self, step: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        # All features are shifted as one block: one array for each of them took a third of a tick's time.
        keys = [k for k, f in self.fields.items() if f.group != 'images']
        newest = np.concatenate([step[k] for k in keys])
        if self._past is None:
            self._past = np.repeat(newest[None], max(self.fields[k].history for k in keys), axis=0)
        else:
            self._past[:-1] = self._past[1:]
            self._past[-1] = newest
        block, start, out = self._past.copy(), 0, {}    # a copy: a policy may write to what it is given
        for key, field in self.fields.items():
            if field.group == 'images':
                out[key] = step[key]
                continue
            out[key] = block[len(block) - field.history:, start:start + field.shape[0]]
            start += field.shape[0]
        return out


def stacked_indices(length: int, history: int) -> np.ndarray:
    """For every step of an episode the indices that `History` would stack, int [length, history].

    Step 0 stands in for what was before it.
    """
    offsets = np.arange(history) - (history - 1)
    return np.maximum(np.arange(length)[:, None] + offsets, 0)
