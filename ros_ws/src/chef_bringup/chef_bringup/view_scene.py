# SPDX-License-Identifier: Apache-2.0
"""What is drawn around the robot, by Rerun and by rviz alike: plain shapes from samples, no ROS, no viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from chef_task import geometry
from chef_task.limits import Limits
from chef_task.rewards import OBJECT_SIZE_M
from chef_task.spaces import OBJECTS

BASE_FRAME = "base"
COLOURS = {"red": (0.86, 0.20, 0.18, 1.0), "green": (0.24, 0.66, 0.30, 1.0), "blue": (0.22, 0.38, 0.86, 1.0)}
WORKSPACE_COLOUR = (0.9, 0.75, 0.2, 0.6)
FORCE_COLOUR, OVER_LIMIT_COLOUR = (0.15, 0.45, 0.75, 1.0), (0.75, 0.1, 0.1, 1.0)
# Poses in the tool's frame of sensor frames that the robot's description leaves out: the benchmark's
# Robotiq FTS-300 is mounted a quarter turn round.
SENSOR_FROM_TCP = {"wrist_ft": np.array([0.0, 0.0, 0.0215, np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])}
# An arrow of this length is a force at the limit.
ARROW_AT_LIMIT_M = 0.2


@dataclass(frozen=True)
class Box:
    """A box: pose x y z qw qx qy qz in the base frame (m), full size (m), colour r g b a in [0, 1]."""

    name: str
    pose: np.ndarray
    size: tuple[float, float, float]
    rgba: tuple[float, float, float, float]


@dataclass(frozen=True)
class Arrow:
    """An arrow from `start` to `end`, base frame, m."""

    name: str
    start: np.ndarray
    end: np.ndarray
    rgba: tuple[float, float, float, float]


def workspace(limits: Limits) -> Box:
    """The box that the pinch point keeps to while a policy acts."""
    pose = np.array([*limits.workspace_centre_m, 1.0, 0.0, 0.0, 0.0])
    return Box("workspace", pose, tuple(limits.workspace_size_m), WORKSPACE_COLOUR)


def workspace_edges(limits: Limits) -> np.ndarray:
    """The 12 edges of the workspace as points in pairs, [24, 3], base frame, m."""
    box = workspace(limits)
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    edges = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
    return box.pose[:3] + np.array([corners[i] for edge in edges for i in edge]) * box.size


def objects(poses: np.ndarray) -> list[Box]:
    """The three objects as coloured boxes of their nominal size; their true shape is in no message.

    Args:
        poses: [3, 7], as in the stream `objects`.
    """
    size = (OBJECT_SIZE_M,) * 3
    return [Box(colour, np.asarray(pose, float), size, COLOURS[colour]) for colour, pose in zip(OBJECTS, poses)]


def force_arrow(force: np.ndarray, wrist_pose: np.ndarray, limit_n: float) -> Arrow:
    """The wrist force as an arrow from the wrist; red at the limit and above.

    Args:
        force: [3], N, in the sensor's frame.
        wrist_pose: [7], pose of the sensor's frame in the base frame.
        limit_n: force limit, N.
    """
    wrist_pose, force = np.asarray(wrist_pose, float), np.asarray(force, float)
    vector = geometry.rotate(wrist_pose[3:], force) * (ARROW_AT_LIMIT_M / limit_n)
    colour = OVER_LIMIT_COLOUR if np.linalg.norm(force) >= limit_n else FORCE_COLOUR
    return Arrow("wrist_force", wrist_pose[:3], wrist_pose[:3] + vector, colour)


def reward_lines(tasks: Sequence[str], values: Sequence[float], acting: int | None) -> list[str]:
    """One line a task, the acting one marked."""
    return [f"{'>' if i == acting else ' '} {task} {value:.2f}" for i, (task, value) in enumerate(zip(tasks, values))]


def limits_of(metadata: Mapping) -> Limits:
    """The limits that an episode was recorded with; the defaults where it does not tell them."""
    try:
        return Limits.from_dict(metadata["limits"])
    except (KeyError, TypeError, ValueError):
        return Limits()
