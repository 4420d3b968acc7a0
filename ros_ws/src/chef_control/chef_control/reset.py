# SPDX-License-Identifier: Apache-2.0
"""Scene resets: random objects, random tool pose, by 20 Hz velocity commands.

Both routines are generators of `Move`s and `Place`s, so that they need neither ROS nor a clock: the
node carries out what they yield. `place_reset` is for the simulated cell; `sweep_reset` moves the
objects with the robot only, as on a real cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from chef_task import geometry, spaces

# The benchmark's start: pinch position, m, and rotation about the vertical, rad.
TOOL_LOW = np.array([0.5, -0.14, 0.22])
TOOL_HIGH = np.array([0.7, 0.14, 0.43])
TOOL_YAW = np.pi / 4
# Where objects are dropped, m: inside the basket, off its walls.
DROP_LOW, DROP_HIGH = np.array([0.50, -0.10]), np.array([0.70, 0.10])
HOVER_M, GRASP_M, DROP_M = 0.20, 0.068, 0.12   # heights of the pinch in a sweep, m

OPEN, CLOSE = -1.0, 1.0


@dataclass(frozen=True)
class Move:
    """Moves the pinch to a position [3], m, and yaw, rad, with the gripper opening or closing.

    Ends when it is there, or, where `until_s` is given, after that time at the latest.
    """

    phase: str
    position: np.ndarray
    yaw: float
    gripper: float
    until_s: float = 30.0
    tolerance_m: float = 0.01
    required: bool = True       # whether not arriving in time fails the reset


@dataclass(frozen=True)
class Place:
    """Asks the simulation to put the objects anew."""

    phase: str
    triplet: int
    seed: int


def random_tool_pose(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The benchmark's distribution of start poses: position [3], m, and yaw, rad."""
    return rng.uniform(TOOL_LOW, TOOL_HIGH), rng.uniform(-TOOL_YAW, TOOL_YAW)


def rise(pinch_pose) -> Iterator[Move]:
    """Straight up out of the objects, where the pinch's pose [7] is among them: sideways would press or drag.

    The gripper stays as it is, since opening may press as well. Not required: what holds it may let go later.
    """
    x, y, z = np.asarray(pinch_pose)[:3]
    if z < HOVER_M - 0.01:
        yield Move('up', np.array([x, y, HOVER_M]), tool_yaw(pinch_pose), 0.0, until_s=4.0, required=False)


def place_reset(triplet: int, seed: int, objects: Callable, pinch: Callable) -> Iterator[Move | Place]:
    """The arm rises and goes to its start pose, clear of where the objects fall; then they are placed.

    Args:
      pinch: called for the pinch's pose [7] when it is needed.
    """
    rng = np.random.default_rng(seed)
    yield from rise(pinch())
    position, yaw = random_tool_pose(rng)
    yield Move('arm', position, yaw, OPEN)
    yield Place('objects', triplet, seed)


def sweep_reset(triplet: int, seed: int, objects: Callable, pinch: Callable) -> Iterator[Move | Place]:
    """Every object is picked up where the tracker sees it and dropped at a random place.

    Args:
      objects: called for the tracked poses [3, 7] when they are needed.
      pinch: called for the pinch's pose [7] when it is needed.
    """
    rng = np.random.default_rng(seed)
    yield from rise(pinch())
    for i in rng.permutation(len(spaces.OBJECTS)):
        colour = spaces.OBJECTS[i]
        start = np.asarray(objects())[i]
        yaw = float((geometry.yaw(start[3:]) + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        low, high = np.append(DROP_LOW, 0) - 0.03, np.append(DROP_HIGH, 1) + 0.03
        over = np.clip(start[:3], low, high)
        yield Move(f'above {colour}', np.array([*over[:2], HOVER_M]), yaw, OPEN)
        height = float(np.clip(start[2], GRASP_M, 0.15))
        # May be stopped short by another object: then the fingers close on what they find, or nothing.
        yield Move(f'down to {colour}', np.array([*over[:2], height]), yaw, OPEN, until_s=4.0, required=False)
        yield Move(f'grasp {colour}', np.array([*over[:2], height]), yaw, CLOSE, until_s=1.0,
                   tolerance_m=0.0, required=False)
        goal = rng.uniform(DROP_LOW, DROP_HIGH)
        yield Move(f'lift {colour}', np.array([*over[:2], HOVER_M]), yaw, CLOSE, until_s=6.0, required=False)
        yield Move(f'carry {colour}', np.array([*goal, HOVER_M]), rng.uniform(-TOOL_YAW, TOOL_YAW), CLOSE,
                   until_s=8.0, required=False)
        yield Move(f'drop {colour}', np.array([*goal, DROP_M]), 0.0, CLOSE, until_s=3.0, required=False)
        yield Move(f'release {colour}', np.array([*goal, DROP_M]), 0.0, OPEN, until_s=1.0, tolerance_m=0.0,
                   required=False)
    position, yaw = random_tool_pose(rng)
    yield Move('up', np.array([0.6, 0.0, 0.25]), 0.0, OPEN)
    yield Move('arm', position, yaw, OPEN)


ROUTINES = {'place': place_reset, 'sweep': sweep_reset}


class Servo:
    """Proportional control of the pinch to a Move's goal: the 5-D action for the next control period."""

    GAIN = 3.0  # 1/s; at 20 Hz a third of the highest stable one

    def action(self, move: Move, pinch_pose) -> np.ndarray:
        """[5] in [-1, 1], for the pinch's pose [7] now."""
        pinch_pose = np.asarray(pinch_pose)
        linear = self.GAIN * (move.position - pinch_pose[:3]) / spaces.LINEAR_SPEED_M_S
        turn = self.GAIN * self.yaw_error(move, pinch_pose) / spaces.WRIST_SPEED_RAD_S
        return np.clip([*linear, turn, move.gripper], -1.0, 1.0).astype(np.float32)

    @staticmethod
    def yaw_error(move: Move, pinch_pose) -> float:
        """rad, the shorter way round."""
        return float((move.yaw - tool_yaw(pinch_pose) + np.pi) % (2 * np.pi) - np.pi)

    def arrived(self, move: Move, pinch_pose) -> bool:
        distance = np.linalg.norm(move.position - np.asarray(pinch_pose)[:3])
        return distance <= move.tolerance_m and abs(self.yaw_error(move, pinch_pose)) < 0.1


def tool_yaw(pinch_pose) -> float:
    """Rotation of the downward tool about the vertical, rad; 0 where the wrist is at its neutral.

    The tool's x axis in the base frame gives it, since its z axis points down.
    """
    x_axis = geometry.rotate(np.asarray(pinch_pose)[3:], np.array([1.0, 0.0, 0.0]))
    return float(np.arctan2(x_axis[1], x_axis[0]))
