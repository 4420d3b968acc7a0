# SPDX-License-Identifier: Apache-2.0
"""The six task rewards of RGB stacking, each in [0, 1].

Sources: Lee et al. 2021 (google-deepmind/rgb_stacking) for the shapes and constants; the CHEF paper
(2023), section VI.A, where it defines a reward differently, as noted on each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chef_task import spaces

TASKS = ('open', 'reach_grasp', 'lift', 'place', 'stack', 'stack_leave')
MAIN_TASK = 'stack_leave'

BASKET_FLOOR_M = 0.0498
OBJECT_SIZE_M = 0.04
WORKSPACE_CENTRE_M = (0.6, 0.0, 0.1698)
LIFT_HALF_AXES_M = (0.125, 0.125, 0.1)
_ATANH_SQRT_095 = np.arctanh(np.sqrt(0.95))


@dataclass(frozen=True)
class RewardInputs:
    """What the rewards are computed from; leading axes are shared.

    red, blue, pinch: positions [..., 3], m, robot base frame; gripper: position register [...],
    0 open .. 255 closed; grasp: object-detection flag [...], see `spaces.GRASP_*`.
    """

    red: np.ndarray
    blue: np.ndarray
    pinch: np.ndarray
    gripper: np.ndarray
    grasp: np.ndarray


def shaped(error, margin: float) -> np.ndarray:
    """1 at error 0, 0.05 at error = margin: 1 - tanh^2(e * atanh(sqrt(0.95)) / m)."""
    return 1.0 - np.tanh(np.asarray(error) * _ATANH_SQRT_095 / margin) ** 2


def _toleranced(error_vector, tolerance: float, margin: float) -> np.ndarray:
    distance = np.linalg.norm(error_vector, axis=-1)
    return np.where(distance <= tolerance, 1.0, shaped(distance, margin))


def open_gripper(x: RewardInputs) -> np.ndarray:
    """Proportional to the opening of the gripper."""
    return 1.0 - np.asarray(x.gripper, float) / spaces.GRIPPER_CLOSED


def reach_grasp(x: RewardInputs) -> np.ndarray:
    """Approach of the pinch to red, then closing; the grasp term counts once reach > 0.9."""
    reach = _toleranced(x.red - x.pinch, 0.02, 0.15)
    closing = 0.5 * shaped(spaces.GRIPPER_CLOSED - np.asarray(x.gripper, float), spaces.GRIPPER_CLOSED)
    inward = (np.asarray(x.grasp) == spaces.GRASP_INWARD).astype(float)
    grasp = np.maximum(closing, inward)
    return np.where(reach > 0.9, (0.5 + 0.5 * grasp) * reach, 0.5 * reach)


def lift(x: RewardInputs) -> np.ndarray:
    """Linear in red's height from 55 mm (0) to 100 mm (1) over the floor, while red is in the workspace.

    As in the paper; the public simulation also multiplies it by the grasp term.
    """
    low, high = BASKET_FLOOR_M + 0.055, BASKET_FLOOR_M + 0.10
    height = np.clip((x.red[..., 2] - low) / (high - low), 0.0, 1.0)
    offset = (x.red - np.asarray(WORKSPACE_CENTRE_M)) / np.asarray(LIFT_HALF_AXES_M)
    return height * (np.sum(offset**2, axis=-1) <= 1.0)


def place(x: RewardInputs) -> np.ndarray:
    """Approach of red to the point one object's height above blue; 0 while red is below 0.1 m."""
    goal = x.blue + np.array([0.0, 0.0, OBJECT_SIZE_M])
    return np.where(x.red[..., 2] < 0.1, 0.0, _toleranced(x.red - goal, 0.01, 0.2))


def stack(x: RewardInputs) -> np.ndarray:
    """1 if red is on top of blue (30 mm across, 40 +- 10 mm up) and not grasped, else 0."""
    d = x.red - x.blue
    across = np.linalg.norm(d[..., :2], axis=-1) <= 0.03
    up = np.abs(d[..., 2] - OBJECT_SIZE_M) <= 0.01
    return (across & up & (np.asarray(x.grasp) != spaces.GRASP_INWARD)).astype(float)


def stack_leave(x: RewardInputs) -> np.ndarray:
    """1 if stacked and the tool's pinch point is at least 0.10 m from red's centre, else 0 (paper)."""
    away = np.linalg.norm(x.pinch - x.red, axis=-1) >= 0.10
    return stack(x) * away


_FUNCTIONS = (open_gripper, reach_grasp, lift, place, stack, stack_leave)


def rewards(x: RewardInputs) -> np.ndarray:
    """All rewards, float32 [..., 6], in the order of TASKS."""
    return np.stack([np.asarray(f(x), float) for f in _FUNCTIONS], axis=-1).astype(np.float32)
