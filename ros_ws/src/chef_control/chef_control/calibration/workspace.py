# SPDX-License-Identifier: Apache-2.0
"""The box that the pinch may move in, from points that the robot was led to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chef_control.calibration.board import CalibrationError

_LEAST_M = 0.02     # of each side


@dataclass(frozen=True)
class Workspace:
    """centre_m, size_m: [3] each, robot base frame; as `workspace_centre_m`, `workspace_size_m` of a cell's limits."""

    centre_m: tuple[float, ...]
    size_m: tuple[float, ...]


def box(points: Sequence[Sequence[float]], margin_m: float = 0.0) -> Workspace:
    """The smallest box along the base's axes with all points [N, 3] of the pinch in it, smaller by a margin on each side.

    Raises:
      CalibrationError: two points are needed at least, and a box that is left after the margin.
    """
    p = np.asarray(points, float)
    if p.ndim != 2 or p.shape[1:] != (3,) or len(p) < 2 or not np.all(np.isfinite(p)):
        raise CalibrationError('the workspace needs two points of three finite numbers at least, in m')
    low, high = p.min(axis=0) + margin_m, p.max(axis=0) - margin_m
    for axis, side in zip('xyz', high - low):
        if side < _LEAST_M:
            raise CalibrationError(f'the workspace would be {side * 1000:.0f} mm along {axis}: touch points on all its sides')
    return Workspace(tuple(float(v) for v in (low + high) / 2), tuple(float(v) for v in high - low))
