# SPDX-License-Identifier: Apache-2.0
"""Scene resets: random objects, random tool pose, by 20 Hz velocity commands.

A routine is a generator of `Move`s and `Place`s, so that it needs neither ROS nor a clock: a `ResetRunner` carries out
what it yields, and sends back how each Move ended. `place_reset`, here, is for the simulated cell; `stir.stir_reset`
moves the objects with the robot only, as on a real cell.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from chef_control.reset_senses import Senses
from chef_task import geometry, spaces
from chef_task.limits import Limits

# The benchmark's start: pinch position, m, and rotation about the vertical, rad.
TOOL_LOW = np.array([0.5, -0.14, 0.22])
TOOL_HIGH = np.array([0.7, 0.14, 0.43])
TOOL_YAW = np.pi / 4
RISE_M = 0.20       # height of the pinch above all objects, m

OPEN, CLOSE, STAY = -1.0, 1.0, 0.0
# How a Move ended: there; pressed against something; done as `until` says; too late.
ARRIVED, TOUCHED, DONE, LATE = 'arrived', 'touched', 'done', 'late'


class ResetError(Exception):
    """The reset failed; kind: 'safety', 'timeout', 'objects' or 'cancelled'."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


class ForceStop(ResetError):
    """The safety gate stopped the arm at the force limit: a routine that can begin anew catches it, and rises."""

    def __init__(self, text: str):
        super().__init__('safety', text)


@dataclass(frozen=True)
class Move:
    """Moves the pinch to a position [3], m, and yaw, rad, with the gripper opening or closing.

    Ends when it is there, when `until` says so, when what it presses against pushes back by `guard_n`, or after
    `until_s` at the latest.
    """

    phase: str
    position: np.ndarray
    yaw: float
    gripper: float
    until_s: float = 30.0
    tolerance_m: float = 0.01
    required: bool = True       # whether not arriving in time fails the reset
    speed: float | None = None  # share of the highest, in a straight line; None: each axis as fast as it may
    guard_n: float = 0.0        # change of the wrist force since the move's begin that ends it; 0: none
    yield_n: float = 0.0        # change of the wrist force beyond which the pinch gives way upwards and the fingers
    #                             wait, which close at half speed; 0: never
    until: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Place:
    """Asks the simulation to put the objects anew."""

    phase: str
    triplet: int
    seed: int


def random_tool_pose(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The benchmark's distribution of start poses: position [3], m, and yaw, rad."""
    return rng.uniform(TOOL_LOW, TOOL_HIGH), rng.uniform(-TOOL_YAW, TOOL_YAW)


Routine = Generator[Move | Place, str | None, None]


def rise(pinch_pose) -> Routine:
    """Straight up out of the objects, where the pinch's pose [7] is among them: sideways would press or drag.

    The gripper stays as it is, since opening may press as well. Not required: what holds it may let go later.
    """
    x, y, z = np.asarray(pinch_pose)[:3]
    if z < RISE_M - 0.01:
        yield Move('up', np.array([x, y, RISE_M]), tool_yaw(pinch_pose), STAY, until_s=4.0, required=False)


def place_reset(triplet: int, seed: int, senses: Senses, limits: Limits) -> Routine:
    """The arm rises and goes to its start pose, clear of where the objects fall; then they are placed."""
    rng = np.random.default_rng(seed)
    yield from rise(senses.pinch)
    position, yaw = random_tool_pose(rng)
    yield Move('arm', position, yaw, OPEN)
    yield Place('objects', triplet, seed)


class Servo:
    """Proportional control of the pinch to a Move's goal: the 5-D action for the next control period."""

    GAIN = 3.0  # 1/s; at 20 Hz a third of the highest stable one

    def action(self, move: Move, pinch_pose) -> np.ndarray:
        """[5] in [-1, 1], for the pinch's pose [7] now."""
        pinch_pose = np.asarray(pinch_pose)
        linear = self.GAIN * (move.position - pinch_pose[:3]) / spaces.LINEAR_SPEED_M_S
        if move.speed is not None:
            linear *= min(1.0, move.speed / max(float(np.linalg.norm(linear)), 1e-9))
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
