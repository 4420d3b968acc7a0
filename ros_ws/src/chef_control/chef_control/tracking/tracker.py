# SPDX-License-Identifier: Apache-2.0
"""The tracker: pictures of calibrated cameras in, poses of red, green and blue out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chef_control.calibration.camera import Camera
from chef_control.tracking.fit import Fit, ShapeFit, Views
from chef_control.tracking.outlines import Outline, masks, outlines, shrink
from chef_control.tracking.settings import TrackerSettings
from chef_control.tracking.shapes import Shape
from chef_task.spaces import OBJECTS

_TRIED = 3          # choices of spots that are fitted before an object counts as not seen
_NEAR_M = 0.25      # nearer to a camera than the middle of the workspace by this, no object comes
_WORST_M = 0.005    # deviation of the position up to which a pose is a good one


@dataclass(frozen=True)
class Tracked:
    """One object. pose: [7]; stamp: ns, of the pictures it was last seen in, 0: never; sigma_m: expected deviation of
    its position; views: how many cameras were used; dropped: how many saw something else; residual_px: rms of the
    outlines used; agreement: share of their directions that fit."""

    pose: np.ndarray
    stamp: int = 0
    sigma_m: float = np.inf
    views: int = 0
    dropped: int = 0
    residual_px: float = 0.0
    agreement: float = 0.0

    @property
    def confidence(self) -> float:
        """0 .. 1: 0.5 where the expected deviation is 5 mm, and falling with its square."""
        return 1.0 / (1.0 + (self.sigma_m / _WORST_M)**2)


class Tracker:
    """Finds the objects anew in each set of pictures; one that cannot be found keeps its last pose.

    Args:
      cameras: calibrated, two at least.
      shapes: of red, green and blue.
      middle: [3], m, of the workspace.
    """

    def __init__(self, cameras: Sequence[Camera], shapes: Sequence[Shape], settings: TrackerSettings | None = None,
                 middle: Sequence[float] = (0.6, 0.0, 0.1)):
        self.settings = settings or TrackerSettings()
        self._cameras = {c.name: c for c in cameras}
        self._views: dict[tuple[str, int, int], Camera] = {}    # by name and size of the pictures
        self._fits = [ShapeFit(s) for s in shapes]
        self._sizes = [s.diameter_m for s in shapes]
        self._middle = np.asarray(middle, float)
        self._now: dict[str, Camera] = {}
        self.forget()

    def forget(self) -> None:
        """Begins anew, as if nothing had been seen."""
        self.objects = [Tracked(np.array([np.nan] * 3 + [1.0, 0, 0, 0])) for _ in OBJECTS]

    def track(self, images: Mapping[str, np.ndarray], stamp: int) -> list[Tracked]:
        """Red, green and blue after pictures, RGB uint8 [H, W, 3], taken at one time; `stamp` in ns.

        The pictures may be smaller than those of the calibration and of another aspect, if they were cropped as the
        camera drivers do it.

        Raises:
          ValueError: a picture's camera is not calibrated.
        """
        seen = {name: self._see(name, image) for name, image in images.items()}
        self._now = {name: camera for name, (camera, _) in seen.items()}
        for i in range(len(OBJECTS)):
            self.objects[i] = self._locate(i, {n: found[i] for n, (_, found) in seen.items() if found[i]}, stamp)
        return list(self.objects)

    def _see(self, name: str, image: np.ndarray) -> tuple[Camera, list[list[Outline]]]:
        if name not in self._cameras:
            raise ValueError(f'camera {name!r} is not calibrated, known are {", ".join(self._cameras)}')
        small = shrink(image, self.settings.width_px)
        key = (name, small.shape[1], small.shape[0])
        if key not in self._views:
            camera = self._cameras[name]
            self._views[key] = replace(camera, intrinsics=camera.intrinsics.cropped(*key[1:]))
        camera = self._views[key]
        distance = max(np.linalg.norm(camera.pose[:3] - self._middle) - _NEAR_M, 0.1)
        sizes = [d / distance * camera.intrinsics.focal_px for d in self._sizes]
        return camera, outlines(masks(small, self.settings), camera.intrinsics, sizes, self.settings)

    def _locate(self, i: int, seen: Mapping[str, list[Outline]], stamp: int) -> Tracked:
        last = self.objects[i]
        for chosen, near in self._agree(seen, self._sizes[i])[:_TRIED]:
            views = Views([self._now[n] for n in chosen], list(chosen.values()))
            fit = self._fits[i].fit(views, near, last.pose if last.stamp else None)
            fit, used = self._drop(i, fit, views, near)
            if fit.beyond.max() > self.settings.beyond_most or fit.agreement.mean() < self.settings.agreement_least:
                continue
            agreement = float(fit.agreement.mean())
            sigma = float(np.sqrt(np.trace(fit.covariance))) * max(self.settings.noise_px, fit.residual_px) / agreement
            return Tracked(fit.pose, stamp, sigma, used, len(seen) - used, fit.residual_px, agreement)
        return replace(last, views=0, dropped=len(seen))

    def _drop(self, i: int, fit: Fit, views: Views, near: np.ndarray) -> tuple[Fit, int]:
        """Without the views in which the spot is not this shape, while enough are left."""
        used = len(fit.beyond)
        while used > self.settings.views_least and fit.beyond.max() > self.settings.beyond_most:
            fewer = [(self._fits[i].fit(v, near), v) for v in (views.without(c) for c in range(used))]
            fit, views = min(fewer, key=lambda f: (f[0].beyond.max() > self.settings.beyond_most, f[0].cost))
            used -= 1
        return fit, used

    def _agree(self, seen: Mapping[str, list[Outline]], size_m: float) -> list[tuple[dict[str, Outline], np.ndarray]]:
        """Choices of one spot from each camera, of two at least, that can be one object, with where their rays meet, [3], m.

        Those of most cameras first, and of them those whose rays meet best.
        """
        found = []
        for combination in itertools.product(*([(n, o) for o in (*spots, None)] for n, spots in seen.items())):
            chosen = {n: o for n, o in combination if o is not None}
            if len(chosen) >= self.settings.views_least:
                point, apart = self._meet(chosen)
                if apart.max() <= size_m / 2:
                    found.append((len(chosen), float(apart.max()), chosen, point))
        found.sort(key=lambda f: (-f[0], f[1]))
        return [(chosen, point) for _, _, chosen, point in found]

    def _meet(self, chosen: Mapping[str, Outline]) -> tuple[np.ndarray, np.ndarray]:
        """The point nearest to the rays through the outlines' centres, [3], and its distances from them; m."""
        origins, directions = [], []
        for name, outline in chosen.items():
            camera = self._now[name]
            ray = camera.rotation.T @ np.append(outline.centre / camera.intrinsics.focal_px, 1.0)
            origins.append(camera.pose[:3])
            directions.append(ray / np.linalg.norm(ray))
        origins, directions = np.array(origins), np.array(directions)
        across = np.eye(3) - directions[:, :, None] * directions[:, None]
        point = np.linalg.lstsq(across.sum(axis=0), (across @ origins[:, :, None]).sum(axis=0)[:, 0], rcond=None)[0]
        return point, np.linalg.norm((across @ (point - origins)[:, :, None])[..., 0], axis=1)
