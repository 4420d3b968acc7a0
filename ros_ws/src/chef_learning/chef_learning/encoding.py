# SPDX-License-Identifier: Apache-2.0
"""Features to network inputs: fixed offsets and scales, in the units of `chef_task.observation.FIELDS`.

Fixed, not learned from data: a policy means the same on every cell and at every time, and replay can be
rebuilt or mixed without any state besides the bags.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from chef_task.observation import fields_of

# A spike (a knock on the force sensor) must not swamp the other inputs of the layer norm.
CLIP = 10.0

# Of what is below: a network made for one is none for another.
VERSION = 2

_WORKSPACE = ((0.6, 0.0, 0.1698), (0.125, 0.125, 0.1))   # centre and half axes, m


def _pose(offset, scale) -> tuple[list[float], list[float]]:
    # quaternion components are within [-1, 1] as they are
    return [*offset, 0.0, 0.0, 0.0, 0.0], [*scale, 1.0, 1.0, 1.0, 1.0]


def _offset_scale(key: str, size: int) -> tuple[list[float], list[float]]:
    """Offset and scale of one step of a feature, in its units: input = (feature - offset) / scale."""
    if key.endswith('_to_pinch'):
        # Rewards turn on 1 to 2 cm: in units of the workspace the first layer took twice the updates to tell those
        # apart. Differences of quaternion components are within [-2, 2].
        return [0.0] * 7, [0.05, 0.05, 0.05, 1.0, 1.0, 1.0, 1.0]
    if key.endswith('_pose'):
        return _pose(*_WORKSPACE)
    one = {
        'joint_angle': (0.0, np.pi),          # rad
        'joint_velocity': (0.0, 1.0),         # rad/s
        'joint_torque': (0.0, 30.0),          # N m
        'gripper_position': (0.5, 0.5),       # 0 open .. 1 closed
        'gripper_velocity': (0.0, 1.0),       # full strokes per second
        'gripper_grasp': (2.0, 1.0),          # 1 none, 2 inward, 3 outward
        'wrist_force': (0.0, 10.0),           # N
        'wrist_torque': (0.0, 1.0),           # N m
        'last_action': (0.0, 1.0),
    }
    if key == 'tcp_velocity':
        return [0.0] * 6, [0.07, 0.07, 0.07, 1.0, 1.0, 1.0]   # m/s, rad/s: the action's full speeds
    offset, scale = one[key]
    return [offset] * size, [scale] * size


class FeatureEncoding(nn.Module):
    """Stacked features of an observation as one normalised vector.

    `forward`: dict of key -> [B, history, size] float32 to [B, self.size], in the order of `fields_of`.
    """

    def __init__(self, observation: str, haptics: bool):
        super().__init__()
        fields = {k: f for k, f in fields_of(observation, haptics).items() if f.group != 'images'}
        self.keys = tuple(fields)
        offsets, scales = [], []
        for key, field in fields.items():
            offset, scale = _offset_scale(key, field.shape[0])
            offsets += offset * field.history
            scales += scale * field.history
        self.size = len(offsets)
        # constants of the code, not of a checkpoint
        self.register_buffer('offset', torch.tensor(offsets, dtype=torch.float32), persistent=False)
        self.register_buffer('inverse', 1.0 / torch.tensor(scales, dtype=torch.float32), persistent=False)

    def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        x = torch.cat([observation[k].flatten(1) for k in self.keys], dim=1)
        return ((x - self.offset) * self.inverse).clamp(-CLIP, CLIP)
