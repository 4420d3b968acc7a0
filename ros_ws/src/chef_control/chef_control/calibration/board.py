# SPDX-License-Identifier: Apache-2.0
"""The ChArUco board that cameras are calibrated with: its picture for the printer, and its corners in pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from chef_task.errors import OneLineError
from chef_task.settings import option

DICTIONARIES = ('DICT_4X4_50', 'DICT_4X4_100', 'DICT_5X5_50', 'DICT_5X5_100', 'DICT_6X6_50', 'DICT_6X6_100')
_MM_PER_INCH = 25.4
LEAST_CORNERS = 6       # in a picture that is used


class CalibrationError(OneLineError):
    """A calibration cannot be made or read; one line with where and why."""


@dataclass(frozen=True)
class Board:
    """A board, seen from its printed side: its frame has its origin in the upper left corner, x to the right along the
    columns, y down along the rows, z into the board."""

    columns: int = option(7, 'squares along x', low=3, high=30)
    rows: int = option(5, 'squares along y', low=3, high=30)
    square_m: float = option(0.024, 'side of a square as printed, m: measure it', low=0.002, high=0.5)
    marker_m: float = option(0.018, 'side of a marker, m', low=0.001, high=0.5)
    dictionary: str = option('DICT_4X4_50', 'of the markers, as OpenCV calls it', choices=DICTIONARIES)

    def __post_init__(self):
        if not self.marker_m < self.square_m:
            raise ValueError(f'marker_m must be below square_m, {self.marker_m:g} is not below {self.square_m:g}')
        markers, most = self.columns * self.rows // 2, int(self.dictionary.rpartition('_')[2])
        if markers > most:
            raise ValueError(f'dictionary {self.dictionary} has {most} markers, a board of {self.columns} x {self.rows} '
                             f'squares needs {markers}')

    @property
    def _board(self) -> cv2.aruco.CharucoBoard:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, dictionary)

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height, m."""
        return self.columns * self.square_m, self.rows * self.square_m

    @property
    def corners(self) -> np.ndarray:
        """The inner corners in the board's frame by their ids, [N, 3], m."""
        return np.asarray(self._board.getChessboardCorners(), float)

    def picture(self, square_px: int) -> np.ndarray:
        """[H, W] uint8 with squares of `square_px` pixels, no margin."""
        return self._board.generateImage((self.columns * square_px, self.rows * square_px))

    def save(self, path: Path | str, dpi: int = 300) -> None:
        """For the printer: a PDF of exact size, with what the board is written below it, or a PNG.

        Raises:
          CalibrationError: neither .pdf nor .png, or it cannot be written.
        """
        path = Path(path)
        if path.suffix not in ('.pdf', '.png'):
            raise CalibrationError(f'{path}: a board is written as .pdf or .png')
        picture = self.picture(max(8, round(self.square_m * 1000 / _MM_PER_INCH * dpi)))
        try:
            if path.suffix == '.png':
                path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
            else:
                self._save_pdf(path, picture)
        except OSError as e:
            raise CalibrationError(f'{path}: cannot be written: {e.strerror}') from None

    def _save_pdf(self, path: Path, picture: np.ndarray) -> None:
        from matplotlib.figure import Figure

        margin = 0.012
        width, height = (v + 2 * margin for v in self.size_m)
        figure = Figure(figsize=(width * 1000 / _MM_PER_INCH, height * 1000 / _MM_PER_INCH))
        axes = figure.add_axes((margin / width, margin / height, 1 - 2 * margin / width, 1 - 2 * margin / height))
        axes.imshow(picture, cmap='gray', vmin=0, vmax=255, interpolation='nearest', aspect='auto')
        axes.axis('off')
        figure.text(0.5, margin / height / 2, f'{self.columns} x {self.rows} squares of {self.square_m * 1000:g} mm, markers '
                    f'{self.marker_m * 1000:g} mm, {self.dictionary}: print at 100 %, measure a square',
                    ha='center', va='center', fontsize=5)
        figure.savefig(path)

    def detect(self, image: np.ndarray) -> Seen | None:
        """The corners in a picture, RGB [H, W, 3] or grey [H, W] uint8; None where there are too few."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        corners, ids, _, _ = cv2.aruco.CharucoDetector(self._board).detectBoard(grey)
        if ids is None or len(ids) < LEAST_CORNERS:
            return None
        ids = np.asarray(ids).ravel()
        points = self.corners[ids]
        if min(np.ptp(points[:, 0]), np.ptp(points[:, 1])) < self.square_m / 2:
            return None         # in one line, from which no pose follows
        return Seen(ids, np.asarray(corners, float).reshape(-1, 2), (grey.shape[1], grey.shape[0]))


@dataclass(frozen=True)
class Seen:
    """Corners found in one picture. ids: [N]; pixels: [N, 2]; size: width and height of the picture."""

    ids: np.ndarray
    pixels: np.ndarray
    size: tuple[int, int]
