# SPDX-License-Identifier: Apache-2.0
"""The pose of a known shape from its outlines in several cameras.

Least squares on support functions. With corners v_j of the hull, pose (R, t) and the projection p_c of camera c, the
shape reaches h_c(u) = max_j u . p_c(R v_j + t) in direction u. The residual is h_c(u) - m_c(u) with the measured reach
m. Where the spot's outmost point is hidden (`Outline.free` false), only a shape that reaches less than what is seen is
wrong. The derivative of a maximum is that of the corner that attains it, so that each residual has the Jacobian of one
projected point; Gauss-Newton with Levenberg's damping goes from many orientations at once. Occluders that no colour
tells of only ever make m smaller, so a positive residual counts less the larger it is (Geman and McClure's weights),
more strictly from round to round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chef_control.calibration.camera import Camera
from chef_control.tracking.outlines import DIRECTIONS, Outline
from chef_control.tracking.shapes import Shape
from chef_task import geometry

_UNIT_WIDTH, _UNIT_LEAST = 640, 0.4     # all pixels below are those of a picture so wide; of smaller ones, not below 0.4
_STARTS = 32
_MORE = 160     # where those from `_STARTS` end in outlines that do not fit
_FITS_PX = 3.0  # an outline fits in a direction where it is as near as this
_POOR, _POOR_PX = 0.85, 1.1     # share of directions that fit, and residual, with which a search goes on
_BEYOND = 0.1   # share of directions in which the spot reaches beyond the shape, the same
_SCALES_PX = (30.0, 15.0, 8.0, 5.0)             # of the weights, in the rounds from all starts
_LAST_PX = (4.0, 3.0, 3.0, 3.0, 3.0, 3.0)       # in those from the best of them
_KEPT = 5
_DAMPING = np.array([1.0, 1.0, 1.0, 4e-3, 4e-3, 4e-3])     # px2/m2 times 1e2 and px2/rad2: far below any real outline's


@dataclass(frozen=True)
class Fit:
    """pose: [7]; cost: mean of the robust squared residuals, px2; agreement: [C], share of each view's directions in
    which the outline fits; beyond: [C], share in which the spot reaches beyond the shape, which nothing that hides a part
    of it explains; residual_px: root mean square of the residuals by their weights; covariance: [3, 3] of the
    position, for residuals of 1 px, m2."""

    pose: np.ndarray
    cost: float
    agreement: np.ndarray
    beyond: np.ndarray
    residual_px: float
    covariance: np.ndarray
    unit: float = 1.0

    @property
    def poor(self) -> bool:
        return bool(self.agreement.min() < _POOR or self.beyond.max() > _BEYOND or self.residual_px > self.unit * _POOR_PX)


def spread_rotations(count: int) -> np.ndarray:
    """Rotation matrices [count, 3, 3] spread evenly over all rotations.

    Super-Fibonacci spirals (Alexa, CVPR 2022), equations 1 to 3.
    """
    i = np.arange(count) + 0.5
    s, phi, psi = i / count, np.sqrt(2.0), 1.533751168755204288118041
    a, b = 2 * np.pi * i / phi, 2 * np.pi * i / psi
    r, q = np.sqrt(s), np.sqrt(1 - s)
    quats = np.stack([q * np.cos(b), r * np.sin(a), r * np.cos(a), q * np.sin(b)], axis=1)
    return matrices(quats)


def matrices(quats: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    return np.stack([geometry.rotate(quats, np.broadcast_to(e, (*quats.shape[:-1], 3))) for e in np.eye(3)], axis=-1)


def _turns(w: np.ndarray) -> np.ndarray:
    """Rotation matrices [S, 3, 3] of rotation vectors [S, 3] (Rodrigues)."""
    angle = np.linalg.norm(w, axis=1)[:, None, None]
    k = np.zeros((len(w), 3, 3))
    k[:, 0, 1], k[:, 0, 2], k[:, 1, 2] = -w[:, 2], w[:, 1], -w[:, 0]
    k -= k.transpose(0, 2, 1)
    small = np.maximum(angle, 1e-12)
    return np.eye(3) + np.sin(angle) / small * k + (1 - np.cos(angle)) / small**2 * (k @ k)


class Views:
    """Cameras with one outline each, as arrays. C cameras, K directions."""

    def __init__(self, cameras: list[Camera], seen: list[Outline]):
        self.rotation = np.stack([c.rotation for c in cameras])
        self.translation = np.stack([c.translation for c in cameras])
        self.focal = np.array([c.intrinsics.focal_px for c in cameras])
        self.unit = np.array([max(_UNIT_LEAST, c.intrinsics.width / _UNIT_WIDTH) for c in cameras])[:, None]    # pixels
        self.reach = np.stack([o.reach for o in seen])
        self.free = np.stack([o.free for o in seen])

    def without(self, view: int) -> Views:
        """All but one."""
        out = object.__new__(Views)
        out.__dict__ = {k: np.delete(v, view, axis=0) for k, v in vars(self).items()}
        return out


class ShapeFit:
    """Fits one shape; 0.1 ms a round and start, about."""

    def __init__(self, shape: Shape):
        self.shape = shape
        self._middle = shape.middle
        self._corners = shape.corners - self._middle
        self._starts, self._more = spread_rotations(_STARTS), spread_rotations(_MORE)

    def fit(self, views: Views, near: np.ndarray, start: np.ndarray | None = None) -> Fit:
        """The best pose.

        Args:
          near: [3], m, about where the object's middle is.
          start: [7], a pose to begin from besides; the last one, for example. Where its outlines fit, no other is tried.
        """
        if start is not None:
            r = matrices(start[None, 3:])
            last = self._refine(views, r, start[None, :3] + r @ self._middle, _SCALES_PX[1:] + _LAST_PX)
            if not last.poor:
                return last
        found = self._search(views, near, self._starts)
        if start is not None:
            return min(found, last, key=lambda f: f.cost)
        if found.poor:
            found = min(found, self._search(views, near, self._more), key=lambda f: f.cost)
        return found

    def _search(self, views: Views, near: np.ndarray, rotations: np.ndarray) -> Fit:
        """From `near` in many orientations; after every round the better half goes on, `_KEPT` in the end."""
        places = np.repeat(near[None], len(rotations), axis=0)
        for scale in _SCALES_PX:
            rotations, places, cost = self._round(views, rotations, places, scale)
            best = np.argsort(cost)[:max(len(cost) // 2, _STARTS)]
            rotations, places = rotations[best], places[best]
        best = np.argsort(self._residuals(views, rotations, places, _LAST_PX[0])[-1])[:_KEPT]
        return self._refine(views, rotations[best], places[best], _LAST_PX)

    def _refine(self, views: Views, rotations: np.ndarray, places: np.ndarray, scales) -> Fit:
        for scale in scales:
            rotations, places, _ = self._round(views, rotations, places, scale)
        return self._best(views, rotations, places)

    def _best(self, views: Views, rotations: np.ndarray, places: np.ndarray) -> Fit:
        residual, weight, jacobian, cost = self._residuals(views, rotations, places, _LAST_PX[-1])
        s = int(np.argmin(cost))
        r, w = residual[s], weight[s]
        counts = views.free | (r < 0)
        agreement = (counts & (np.abs(r) <= _FITS_PX * views.unit)).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        beyond = (r < -_FITS_PX * views.unit).mean(axis=1)
        rms = float(np.sqrt((w * r**2).sum() / max(w.sum(), 1e-9)))
        j = jacobian[s].reshape(-1, 6)
        normal = (j * w.reshape(-1, 1)).T @ j + np.diag(_DAMPING)
        place = places[s] - rotations[s] @ self._middle
        return Fit(np.concatenate([place, geometry.from_matrix(rotations[s])]), float(cost[s]), agreement, beyond, rms,
                   np.linalg.inv(normal)[:3, :3], float(views.unit.mean()))

    def _residuals(self, v: Views, rotations: np.ndarray, places: np.ndarray, scale: float):
        """(residuals [S, C, K], weights [S, C, K], Jacobians [S, C, K, 6], costs [S])."""
        offsets = self._corners @ rotations.transpose(0, 2, 1)                                      # S V 3
        points = offsets + places[:, None]
        inside = points[:, None] @ v.rotation.transpose(0, 2, 1) + v.translation[:, None]           # S C V 3
        depth = np.maximum(inside[..., 2], 0.02)
        flat = inside[..., :2] / depth[..., None] * v.focal[:, None, None]
        along = flat @ DIRECTIONS.T                                                                 # S C V K
        outmost = along.argmax(axis=2)                                                              # S C K
        residual = np.take_along_axis(along, outmost[:, :, None], axis=2)[:, :, 0] - v.reach
        s, c = np.arange(len(places))[:, None, None], np.arange(len(v.focal))[:, None]
        z, xy = depth[s, c, outmost], flat[s, c, outmost]
        g = np.empty((*residual.shape, 3))
        g[..., :2] = DIRECTIONS * (v.focal[:, None] / z)[..., None]
        g[..., 2] = -(xy * DIRECTIONS).sum(axis=-1) / z
        g = g @ v.rotation                                                                          # S C K 3
        arm = offsets[s, outmost]
        jacobian = np.concatenate([g, _cross(arm, g)], axis=-1)
        limit = scale * v.unit
        over = np.maximum(residual, 0.0) / limit
        weight = 1 / (1 + over**2)**2
        weight *= v.free | (residual < 0)
        weight *= 2 * limit / np.maximum(-residual, 2 * limit)                 # Huber's, for colours where there are none
        # each residual's own share of the robust cost; hidden ones count nothing while they hold
        robust = np.where(residual > 0, np.where(v.free, residual**2 / (1 + over**2), 0.0), weight * residual**2)
        return residual, weight, jacobian, robust.mean(axis=(1, 2))

    def _round(self, v: Views, rotations: np.ndarray, places: np.ndarray, scale: float):
        residual, weight, jacobian, cost = self._residuals(v, rotations, places, scale)
        n = len(places)
        j = jacobian.reshape(n, -1, 6)
        weighted = (j * weight.reshape(n, -1, 1)).transpose(0, 2, 1)
        normal = weighted @ j + np.diag(_DAMPING * scale**2)
        step = -np.linalg.solve(normal, weighted @ residual.reshape(n, -1, 1))[..., 0]
        most = np.maximum(np.linalg.norm(step[:, 3:], axis=1) / 0.6, 1.0)[:, None]      # rad a round, where corners last
        step[:, 3:] /= most
        far = np.maximum(np.linalg.norm(step[:, :3], axis=1) / 0.05, 1.0)[:, None]
        step[:, :3] /= far
        return _turns(step[:, 3:]) @ rotations, places + step[:, :3], cost


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out
