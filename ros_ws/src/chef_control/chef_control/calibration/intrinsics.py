# SPDX-License-Identifier: Apache-2.0
"""How a camera sees, from pictures of a board: OpenCV's bundle adjustment, without the pictures that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from chef_control.calibration.board import Board, CalibrationError, Seen
from chef_control.calibration.camera import Intrinsics

LEAST_IMAGES = 6
_WORST = 3.0            # times the median error of all pictures: a blurred or wrongly read one


@dataclass(frozen=True)
class IntrinsicsResult:
    """intrinsics; rms_px: reprojection error; deviation_px: [4], of fx fy cx cy as OpenCV estimates it; used: names of
    the pictures; errors_px: of each; residuals: of each, [N, 2] pixels at pixels[N, 2]."""

    intrinsics: Intrinsics
    rms_px: float
    deviation_px: np.ndarray
    errors_px: dict[str, float]
    pixels: np.ndarray
    residuals: np.ndarray

    @property
    def used(self) -> tuple[str, ...]:
        return tuple(self.errors_px)


def calibrate_intrinsics(board: Board, seen: Mapping[str, Seen]) -> IntrinsicsResult:
    """From the corners found in pictures of one camera, by name.

    k3 is held at 0: boards that do not reach the corners of the picture do not tell it from k1 and k2.

    Raises:
      CalibrationError: too few pictures, of several sizes, or all too alike.
    """
    if len({s.size for s in seen.values()}) > 1:
        raise CalibrationError(f'the pictures have several sizes: {sorted({s.size for s in seen.values()})}')
    found = _adjust(board, seen)
    errors = np.array(list(found.errors_px.values()))
    kept = {n: s for (n, s), e in zip(seen.items(), errors) if e <= _WORST * np.median(errors)}
    return _adjust(board, kept) if len(kept) < len(seen) else found


def _adjust(board: Board, seen: Mapping[str, Seen]) -> IntrinsicsResult:
    if len(seen) < LEAST_IMAGES:
        raise CalibrationError(f'the board was found in {len(seen)} pictures, {LEAST_IMAGES} are needed at least')
    points = [board.corners[s.ids].astype(np.float32) for s in seen.values()]
    pixels = [s.pixels.astype(np.float32) for s in seen.values()]
    size = next(iter(seen.values())).size
    try:
        rms, matrix, distortion, turns, places, deviation, _, each = cv2.calibrateCameraExtended(
            points, pixels, size, None, None, flags=cv2.CALIB_FIX_K3)
    except cv2.error as e:
        raise CalibrationError(f'the pictures do not determine the camera: {str(e).splitlines()[0]}') from None
    deviation = np.ravel(deviation)[:4]
    if not np.isfinite(rms) or not np.all(np.isfinite(deviation)) or deviation[0] > 0.1 * matrix[0, 0]:
        raise CalibrationError('the pictures do not determine the camera: show the board tilted and at several distances')
    residuals = [cv2.projectPoints(p, r, t, matrix, distortion)[0][:, 0] - x
                 for p, x, r, t in zip(points, pixels, turns, places)]
    return IntrinsicsResult(Intrinsics(*size, np.asarray(matrix, float), np.ravel(distortion)[:5].astype(float)), float(rms),
                            deviation, dict(zip(seen, np.ravel(each).astype(float))), np.concatenate(pixels),
                            np.concatenate(residuals))
