# SPDX-License-Identifier: Apache-2.0
"""Device `colour`: the objects' poses from the pictures of the cell's calibrated cameras. docs/tracking.md.

It owns no hardware: whoever has the cameras' pictures hands them over with `feed`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chef_control.calibration import file
from chef_control.calibration.board import CalibrationError
from chef_control.calibration.camera import Camera
from chef_control.calibration.workspace import Workspace
from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_control.tracking.settings import TrackerSettings
from chef_control.tracking.shapes import Shape, ShapeError, triplet_shapes
from chef_control.tracking.tracker import Tracked, Tracker
from chef_task.settings import option
from chef_task.spaces import OBJECTS

_POLL_S = 0.2
_CLOSE_S = 2.0


@dataclass(frozen=True)
class ColourTrackerSettings:
    """Settings of devices.tracker with `driver: colour`."""

    name: str = option('tracker', 'of the device; from the cell')
    calibration: str = option('', 'path of the calibration; from the cell')
    cameras: tuple[str, ...] = option((), 'names of the cameras that are used; none: all that are calibrated')
    triplet: int = option(1, "the benchmark's objects, 1..5, until a graph says which ones there are", low=1, high=5)
    shapes: tuple[str, ...] = option((), 'STL files (binary, m) of red, green and blue, in place of a triplet')
    together_s: float = option(0.05, 's, how far the pictures of one look may be apart', above=0.0)
    wait_s: float = option(0.05, 's from the first picture of a look to going on without those that are late', above=0.0)
    tracking: TrackerSettings = option(TrackerSettings(), 'colours and sizes')


class ColourTracker:
    """Tracks in a thread of its own; pictures that come while it is at work wait, only the newest of each camera.

    Samples have, besides `poses` (NaN for an object that was never seen, or not for `age_s`): `confidence` [3],
    `age_s` [3], `sigma_m` [3], `views` [3], `dropped` [3].

    Raises:
      ValueError: the calibration or a shape is missing or wrong, or fewer than two cameras are calibrated.
    """

    Settings = ColourTrackerSettings
    PICTURES = True         # the graph starts the cell's cameras for it, whatever the policy sees

    @classmethod
    def problems(cls, settings: ColourTrackerSettings, cameras: Collection[str], fake: bool = False) -> Iterator[str]:
        """What keeps it from being opened, one line each; cameras: those of the cell. fake: with the fakes' calibration."""
        least = settings.tracking.views_least
        if len(cameras) < least:
            yield f'needs the pictures of {least} cameras and more, devices.cameras has {len(cameras)}'
        elif not fake and not settings.calibration:
            yield ('needs a calibration of the cameras: `calibration: FILE` beside devices, FILE being what ./chef calibrate '
                   'makes (docs/tracking.md)')
        elif not fake:
            try:
                used = [c.name for c in _calibrated(settings)[0]]
            except ValueError as e:
                yield str(e)
                return
            for name in used:
                if name not in cameras:
                    yield f'uses camera {name} of {settings.calibration}, which devices.cameras has not'

    def __init__(self, settings: ColourTrackerSettings, on_batch: OnBatch, on_lost: OnLost):
        self._settings, self._on_batch, self._on_lost = settings, on_batch, on_lost
        if not settings.calibration:
            raise ValueError(f'{settings.name}: the cell names no calibration, which a tracker by colour needs')
        try:
            self._calibrated, box = _calibrated(settings)
        except ValueError as e:
            raise ValueError(f'{settings.name}: {e}') from None
        self.cameras, self._middle = tuple(c.name for c in self._calibrated), box and box.centre_m
        self._tracker = self._make(self._shapes(settings.triplet))
        self._news = threading.Condition()
        self._waiting: dict[str, tuple[int, np.ndarray]] = {}
        self._since = 0.0           # when the first of them came, monotonic
        self._done = 0              # stamp of the last sample
        self._closing = False
        self.took_s, self.looks, self.replaced = 0.0, 0, 0
        self._thread = threading.Thread(target=self._run, name=settings.name, daemon=True)
        self._thread.start()

    def _shapes(self, triplet: int) -> tuple[Shape, ...]:
        paths = self._settings.shapes
        if not paths:
            return triplet_shapes(triplet)
        if len(paths) != len(OBJECTS):
            raise ValueError(f'{self._settings.name}: shapes must be {len(OBJECTS)} files, of {", ".join(OBJECTS)}')
        folder = Path(self._settings.calibration).parent
        try:
            return tuple(Shape.from_stl(folder / p) for p in paths)
        except ShapeError as e:
            raise ValueError(f'{self._settings.name}: {e}') from None

    def _make(self, shapes: tuple[Shape, ...]) -> Tracker:
        middle = {'middle': self._middle} if self._middle else {}
        return Tracker(self._calibrated, shapes, self._settings.tracking, **middle)

    def expect(self, triplet: int) -> None:
        """The objects in the basket from now on; ignored where the settings name shapes."""
        if not self._settings.shapes:
            tracker = self._make(triplet_shapes(triplet))
            with self._news:
                self._tracker = tracker

    def feed(self, camera: str, image: np.ndarray, stamp: int) -> None:
        """A picture, RGB uint8 [H, W, 3], that a camera took at `stamp`, ns; those of other cameras are ignored."""
        if camera not in self.cameras:
            return
        with self._news:
            if not self._waiting:
                self._since = time.monotonic()
            self.replaced += camera in self._waiting
            self._waiting[camera] = (int(stamp), image)
            self._news.notify_all()

    def send(self, command: Mapping) -> None:
        raise DeviceError(f'{self._settings.name}: a tracker takes no commands')

    def close(self) -> None:
        with self._news:
            self._closing = True
            self._news.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            while (look := self._next()) is not None:
                tracker, pictures = look
                started = time.monotonic()
                self._look(tracker, pictures)
                self.took_s = time.monotonic() - started
        except Exception as e:      # the node must end rather than fall silent
            self._on_lost(f'{self._settings.name}: {type(e).__name__}: {e}')

    def _next(self) -> tuple[Tracker, dict[str, tuple[int, np.ndarray]]] | None:
        """The pictures of a look, once all are there or the rest is late; None to end."""
        with self._news:
            while not self._closing:
                waited = time.monotonic() - self._since
                if len(self._waiting) == len(self.cameras) or self._waiting and waited >= self._settings.wait_s:
                    pictures, self._waiting = self._waiting, {}
                    return self._tracker, pictures
                self._news.wait(self._settings.wait_s - waited if self._waiting else _POLL_S)
        return None

    def _look(self, tracker: Tracker, pictures: Mapping[str, tuple[int, np.ndarray]]) -> None:
        newest = max(stamp for stamp, _ in pictures.values())
        pictures = {n: p for n, p in pictures.items() if newest - p[0] <= self._settings.together_s * 1e9}
        stamp = min(s for s, _ in pictures.values())
        if len(pictures) < self._settings.tracking.views_least or stamp <= self._done:
            return
        self._done, self.looks = stamp, self.looks + 1
        self._on_batch([sample(tracker.track({n: image for n, (_, image) in pictures.items()}, stamp), stamp,
                               self._settings.tracking.age_s)])


def _calibrated(settings: ColourTrackerSettings) -> tuple[list[Camera], Workspace | None]:
    """The cameras that it looks through, and the workspace; ValueError."""
    try:
        calibration = file.load(settings.calibration)
        names = settings.cameras or tuple(n for n in calibration.intrinsics if n in calibration.poses)
        cameras = [calibration.camera(n) for n in names]
    except CalibrationError as e:
        raise ValueError(str(e)) from None
    if len(cameras) < settings.tracking.views_least:
        raise ValueError(f'{settings.calibration} has {len(cameras)} calibrated cameras, {settings.tracking.views_least} are '
                         'needed')
    return cameras, calibration.workspace


def sample(objects: list[Tracked], stamp: int, age_s: float) -> dict:
    """The sample of stream `objects` at `stamp`, ns; poses older than age_s are NaN."""
    ages = [(stamp - o.stamp) * 1e-9 if o.stamp else float('inf') for o in objects]
    poses = [o.pose if age <= age_s else np.full(7, np.nan) for o, age in zip(objects, ages)]
    return {'stream': 'objects', 'stamp': stamp, 'poses': np.array(poses).tolist(), 'age_s': ages,
            'confidence': [o.confidence if age <= age_s else 0.0 for o, age in zip(objects, ages)],
            'sigma_m': [o.sigma_m for o in objects], 'views': [o.views for o in objects],
            'dropped': [o.dropped for o in objects]}
