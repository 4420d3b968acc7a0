# SPDX-License-Identifier: Apache-2.0
"""A calibrated camera: pinhole with OpenCV's lens distortion, and its place in the robot's base frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from chef_task import geometry


@dataclass(frozen=True)
class Intrinsics:
    """How a camera sees.

    Attributes:
      width, height: of its pictures, pixels.
      matrix: [3, 3], OpenCV's camera matrix, pixels; the centre of the first pixel is (0, 0).
      distortion: [5], OpenCV's k1 k2 p1 p2 k3.
    """

    width: int
    height: int
    matrix: np.ndarray
    distortion: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(5))

    @classmethod
    def pinhole(cls, width: int, height: int, fovy_deg: float) -> Intrinsics:
        """Without distortion, square pixels, the axis through the middle; fovy_deg: vertical field of view."""
        f = height / 2 / np.tan(np.radians(fovy_deg) / 2)
        return cls(width, height, np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]]))

    @property
    def focal_px(self) -> float:
        """Mean focal length, pixels."""
        return float(self.matrix[0, 0] + self.matrix[1, 1]) / 2

    def cropped(self, width: int, height: int) -> Intrinsics:
        """Of what is left of the camera's pictures by `chef_control.drivers.cameras.crop_and_scale`: the largest middle
        part of that aspect, scaled to that size."""
        scale = min(self.height / height, self.width / width)
        h, w = round(height * scale), round(width * scale)
        top, left = (self.height - h) // 2, (self.width - w) // 2
        sx, sy = width / w, height / h
        change = np.array([[sx, 0, (0.5 - left) * sx - 0.5], [0, sy, (0.5 - top) * sy - 0.5], [0, 0, 1.0]])
        return dataclasses.replace(self, width=width, height=height, matrix=change @ self.matrix)

    def ideal(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] without distortion, from the principal point, in units of `focal_px`; [N, 2]."""
        pixels = np.asarray(pixels, float).reshape(-1, 2)
        if np.any(self.distortion):
            return cv2.undistortPoints(pixels[:, None], self.matrix, self.distortion)[:, 0] * self.focal_px
        m = self.matrix
        return (pixels - m[:2, 2]) / (m[0, 0], m[1, 1]) * self.focal_px


@dataclass(frozen=True)
class Camera:
    """A camera in the cell.

    Attributes:
      name: as in `chef_task.spaces.CAMERAS`.
      intrinsics: how it sees.
      pose: [7], of its optical frame (x right, y down, z ahead) in the robot's base frame: x y z (m) qw qx qy qz.
    """

    name: str
    intrinsics: Intrinsics
    pose: np.ndarray

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3], turns directions of the base frame into those of the optical frame."""
        return np.stack([geometry.rotate(geometry.quat_conjugate(self.pose[3:]), e) for e in np.eye(3)], axis=1)

    @property
    def translation(self) -> np.ndarray:
        """[3], m: a point p of the base frame is rotation @ p + translation in the optical frame."""
        return -self.rotation @ self.pose[:3]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of points [N, 3] of the base frame, m."""
        rotation = cv2.Rodrigues(self.rotation)[0]
        pixels, _ = cv2.projectPoints(np.asarray(points, float).reshape(-1, 1, 3), rotation, self.translation,
                                      self.intrinsics.matrix, self.intrinsics.distortion)
        return pixels[:, 0]
