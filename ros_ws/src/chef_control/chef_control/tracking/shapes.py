# SPDX-License-Identifier: Apache-2.0
"""The objects' shapes: what of them an outline shows, which are the corners of their convex hulls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chef_task.errors import OneLineError

_CORNERS = 400      # most; a finer mesh is thinned
_SIZE_M = (0.005, 0.5)


class ShapeError(OneLineError):
    """A file with a shape cannot be used."""


@dataclass(frozen=True)
class Shape:
    """One object's convex hull. corners: [V, 3], m, in the object's own frame, whose origin is its position."""

    corners: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """[3], m, middle of its extents."""
        return (self.corners.min(axis=0) + self.corners.max(axis=0)) / 2

    @property
    def diameter_m(self) -> float:
        """Largest distance of two corners."""
        d = self.corners[:, None] - self.corners
        return float(np.sqrt((d**2).sum(axis=-1).max()))

    @classmethod
    def from_points(cls, points: np.ndarray) -> Shape:
        """From points [N, 3] of its surface, m; ValueError if they enclose nothing."""
        from scipy.spatial import ConvexHull, QhullError

        points = np.asarray(points, float)
        try:
            corners = points[ConvexHull(points).vertices]
        except (QhullError, IndexError):
            raise ValueError('its points enclose no volume') from None
        while len(corners) > _CORNERS:      # coarser and coarser grids: millimetres do not show in a picture
            grid = np.ptp(corners, axis=0).max() / 60 * len(corners) / _CORNERS
            _, first = np.unique(np.round(corners / grid), axis=0, return_index=True)
            corners = corners[np.sort(first)]
        return cls(corners)

    @classmethod
    def from_stl(cls, path: Path | str) -> Shape:
        """From a binary STL file in metres; ShapeError, one line, naming the file."""
        from chef_sim.meshes import read_stl

        try:
            vertices, _ = read_stl(Path(path))
            shape = cls.from_points(vertices)
        except OSError as e:
            raise ShapeError(f'{path}: cannot be read: {e.strerror}') from None
        except ValueError as e:
            raise ShapeError(f'{path}: {str(e).removeprefix(f"{path} ")}') from None
        if not _SIZE_M[0] <= shape.diameter_m <= _SIZE_M[1]:
            raise ShapeError(f'{path}: its size is {shape.diameter_m:g} m; the file must be in metres')
        return shape


def triplet_shapes(triplet: int) -> tuple[Shape, ...]:
    """Red, green and blue of one of the benchmark's triplets; ValueError for one that does not exist."""
    from chef_sim import assets

    return tuple(Shape.from_stl(path) for path in assets.object_files(triplet))
