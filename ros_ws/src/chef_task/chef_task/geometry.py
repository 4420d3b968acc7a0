# SPDX-License-Identifier: Apache-2.0
"""Quaternions (w x y z) and poses (x y z qw qx qy qz); arrays may have leading axes."""

from __future__ import annotations

import numpy as np

IDENTITY_POSE = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def quat_multiply(a, b) -> np.ndarray:
    """Hamilton product a * b, [..., 4]."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack([
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ], axis=-1)


def quat_conjugate(q) -> np.ndarray:
    return np.asarray(q, float) * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q, v) -> np.ndarray:
    """The vectors v [..., 3] rotated by the unit quaternions q [..., 4]."""
    q, v = np.asarray(q, float), np.asarray(v, float)
    u = q[..., 1:]
    t = 2.0 * np.cross(u, v)
    return v + q[..., :1] * t + np.cross(u, t)


def compose(a, b) -> np.ndarray:
    """Pose of frame b, given in frame a, in the frame that a is given in; [..., 7]."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    position = a[..., :3] + rotate(a[..., 3:], b[..., :3])
    return np.concatenate([position, quat_multiply(a[..., 3:], b[..., 3:])], axis=-1)


def inverse(pose) -> np.ndarray:
    """The inverse of a pose, [..., 7]."""
    pose = np.asarray(pose, float)
    q = quat_conjugate(pose[..., 3:])
    return np.concatenate([-rotate(q, pose[..., :3]), q], axis=-1)


def relative(pose, frame) -> np.ndarray:
    """`pose` as seen from `frame`, both given in the same frame; [..., 7]."""
    return compose(inverse(frame), pose)


def yaw(q) -> np.ndarray:
    """Rotation about z of the unit quaternions q [..., 4], rad in (-pi, pi]."""
    w, x, y, z = np.moveaxis(np.asarray(q, float), -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
