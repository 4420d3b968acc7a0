# SPDX-License-Identifier: Apache-2.0
"""Where the benchmark's basket and the gripper's fingers are, as far as a reset must know it. Lengths in m.

The basket is a square of flat floor with a slope up from each side; the numbers follow from the benchmark's basket
(a test holds them against the simulated one) and from the 2F-85 with the benchmark's fingertips.
"""

from __future__ import annotations

import math

import numpy as np

CENTRE = np.array([0.6, 0.0])   # of the floor, robot base frame
FLOOR_Z = 0.0498
FOOT_M = 0.122                  # from the centre to where the slopes begin
SLOPE = math.tan(0.44506)
WALL_TOP_M = 0.4                # from the centre: further out is out of the basket

# A finger of the open gripper, from the pinch: along the line of the fingers, and half its width across it.
FINGER_NEAR_M, FINGER_FAR_M, FINGER_HALF_M = 0.039, 0.067, 0.0115
TIP_OPEN_M, TIP_CLOSED_M = 0.0025, 0.016     # below the pinch
CLOSED_HALF_M = 0.024                        # along the line of the fingers, closed on nothing


def surface_z(xy) -> np.ndarray:
    """Height of floor or slope below points [..., 2]."""
    d = np.abs(np.asarray(xy, float) - CENTRE).max(axis=-1)
    return FLOOR_Z + SLOPE * np.maximum(d - FOOT_M, 0.0)


def off_floor(xy) -> float:
    """By how much a point [2] lies outside of the flat floor; negative inside: minus the distance to the slopes' foot."""
    return float(np.abs(np.asarray(xy, float) - CENTRE).max() - FOOT_M)


def finger_line(yaw: float) -> np.ndarray:
    """Unit vector [2] from the pinch to one of the fingers, for a yaw of the tool, rad."""
    return np.array([-math.sin(yaw), math.cos(yaw)])


def _corners(near: float, far: float, half: float) -> np.ndarray:
    """[4, 2] in the finger's frame: along the line, across it."""
    return np.array([[near, -half], [near, half], [far, -half], [far, half]])


_OPEN = _corners(FINGER_NEAR_M, FINGER_FAR_M, FINGER_HALF_M)
_SHUT = _corners(0.0, CLOSED_HALF_M, FINGER_HALF_M)


def _under(corners: np.ndarray, xy, yaw: float) -> float:
    """The highest surface under both fingers' footprints."""
    line = finger_line(yaw)
    across = np.array([-line[1], line[0]])
    offsets = corners @ np.stack([line, across])
    return float(surface_z(np.asarray(xy) + np.concatenate([offsets, -offsets])).max())


def lowest_pinch(xy, yaw: float, margin: float = 0.003) -> float:
    """Height of the pinch at which the fingers can close over a point [2] without touching the basket."""
    return max(_under(_OPEN, xy, yaw) + TIP_OPEN_M, _under(_SHUT, xy, yaw) + TIP_CLOSED_M) + margin


def lowest_closed(xy, yaw: float, margin: float = 0.003) -> float:
    """The same for fingers that are closed already."""
    return _under(_SHUT, xy, yaw) + TIP_CLOSED_M + margin


def finger_room(xy, yaw: float, others: np.ndarray) -> float:
    """Least distance from the open fingers over a point [2] to the centres of other objects [n, 2]; inf for none."""
    if not len(others):
        return math.inf
    line = finger_line(yaw)
    d = np.asarray(others, float) - np.asarray(xy, float)
    along, across = np.abs(d @ line), np.abs(d @ np.array([-line[1], line[0]]))
    out = np.maximum(np.maximum(FINGER_NEAR_M - along, along - FINGER_FAR_M), 0.0)
    return float(np.hypot(out, np.maximum(across - FINGER_HALF_M, 0.0)).min())
