# SPDX-License-Identifier: Apache-2.0
"""From one picture to the outlines of the coloured objects in it.

An outline is kept as the support function of what is seen: for each of `DIRECTIONS`, how far the spot reaches that
way. An object that something hides in part still has the right reach wherever its outmost point lies free against the
background; where that point touches another colour or the edge of the picture, the true reach may be larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from chef_control.calibration.camera import Intrinsics
from chef_control.tracking.settings import Colour, TrackerSettings

_ANGLES = np.arange(24) * (2 * np.pi / 24)
DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)   # [K, 2], x right, y down
_LEAST_PX = 4           # of a spot
_HALF_PX = 0.5          # the outline lies beyond the centres of its outmost pixels
_CANDIDATES = 3         # spots of one colour looked at in one picture
_SHARE = 0.15           # of the largest spot, below which another is no candidate of its own
_KERNEL = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Outline:
    """One spot of colour, or several that one object may show.

    Attributes:
      reach: [K], ideal pixels (see `Intrinsics.ideal`), how far it reaches in each direction from the principal point.
      free: [K] bool, whether that is also how far the object reaches.
      centre: [2], ideal pixels, of its bounding circle.
      area: pixels.
    """

    reach: np.ndarray
    free: np.ndarray
    centre: np.ndarray
    area: float


def hsv(image: np.ndarray) -> np.ndarray:
    """An RGB picture [H, W, 3] uint8 as hue 0..255 for 0..360 degrees, saturation and value 0..255."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)


def mask(picture: np.ndarray, colour: Colour) -> np.ndarray:
    """Where a picture from `hsv` has the colour: [H, W] uint8, 0 or 255."""
    low, high = (round(h / 360 * 256) for h in colour.hue_deg)
    rest = (round(255 * colour.saturation_least), round(255 * colour.value_least))
    if low <= high:
        found = cv2.inRange(picture, (low, *rest), (min(high, 255), 255, 255))
    else:
        found = cv2.inRange(picture, (low, *rest), (255, 255, 255)) | cv2.inRange(picture, (0, *rest), (high, 255, 255))
    return cv2.morphologyEx(found, cv2.MORPH_OPEN, _KERNEL)


def shrink(image: np.ndarray, width: int) -> np.ndarray:
    """A picture at most `width` wide, scaled by areas."""
    if image.shape[1] <= width:
        return image
    return cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])), interpolation=cv2.INTER_AREA)


def masks(image: np.ndarray, settings: TrackerSettings) -> list[np.ndarray]:
    """Of red, green and blue in an RGB picture, each [H, W] uint8."""
    picture = hsv(image)
    return [mask(picture, c) for c in (settings.red, settings.green, settings.blue)]


def outlines(found: Sequence[np.ndarray], intrinsics: Intrinsics, sizes_px: Sequence[float],
             settings: TrackerSettings) -> list[list[Outline]]:
    """The candidates for each object in one picture, the largest first.

    Args:
      found: masks of the colours.
      intrinsics: of a picture of this size.
      sizes_px: largest diameter that each object can have in it.
    """
    height, width = found[0].shape
    b = max(1, round(settings.border_share * width))
    area_px = max(_LEAST_PX, settings.area_share * width * height)
    grow = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * b + 1,) * 2)
    near = [cv2.dilate(m, grow) for m in found]

    def hidden(points: np.ndarray, own: int) -> np.ndarray:
        x, y = points.T
        out = (x < b) | (y < b) | (x >= width - b) | (y >= height - b)
        for i, other in enumerate(near):
            if i != own:
                out |= other[y, x] > 0
        return out

    return [[_outline(points, area, hidden(points, i), intrinsics) for points, area in _spots(m, sizes_px[i], area_px)]
            for i, m in enumerate(found)]


def _spots(found: np.ndarray, size_px: float, area_px: float) -> list[tuple[np.ndarray, float]]:
    """Hull points [N, 2] and area of each candidate: spots that fit into one object's size count as one."""
    contours, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    spots = [(c[:, 0], cv2.contourArea(c) + len(c) / 2) for c in contours]
    spots = sorted((s for s in spots if s[1] >= area_px), key=lambda s: -s[1])
    out: list[tuple[np.ndarray, float]] = []
    while spots and len(out) < _CANDIDATES:
        points, area = spots.pop(0)
        if out and area < _SHARE * out[0][1]:
            break
        for other in list(spots):
            joined = np.concatenate([points, other[0]])
            if 2 * cv2.minEnclosingCircle(joined)[1] <= size_px:
                points, area = joined, area + other[1]
                spots = [s for s in spots if s is not other]
        out.append((cv2.convexHull(points)[:, 0], area))
    return out


def _outline(points: np.ndarray, area: float, hidden: np.ndarray, intrinsics: Intrinsics) -> Outline:
    ideal = intrinsics.ideal(points)
    along = ideal @ DIRECTIONS.T
    outmost = along.argmax(axis=0)
    (x, y), _ = cv2.minEnclosingCircle(ideal.astype(np.float32))
    return Outline(along.max(axis=0) + _HALF_PX, ~hidden[outmost], np.array([x, y]), area)
