# SPDX-License-Identifier: Apache-2.0
"""What all cameras of real cells share: a stream of stamped pictures that comes back by itself when it breaks off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from chef_control.devices.camera_clock import CameraClock
from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_task.settings import option

_LOG = logging.getLogger(__name__)


class Picture(NamedTuple):
    """image: [H, W, 3] uint8 RGB. ticks_ns: of the camera's clock, None if it has none. arrival_ns: system clock."""

    image: np.ndarray
    ticks_ns: int | None
    arrival_ns: int


class Source(Protocol):
    """An open camera, used from one thread."""

    def grab(self, timeout_s: float) -> Picture | None:
        """The next picture; None if one was spoilt on its way. DeviceError if there is none for about `timeout_s`."""

    def close(self) -> None:
        """Lets go of the camera."""


class EndOfSource(DeviceError):
    """There are no more pictures, and there never will be."""


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """Settings of every camera."""

    name: str = option('camera', 'the camera, and its stream')
    serial: str = option('', 'serial number that it must have, so that swapped cameras are noticed; empty: any')
    rate_hz: float = option(20.0, 'pictures per second asked of the camera', low=1, high=200)
    width: int = option(0, 'pixels; 0: as the camera is', low=0, high=20000)
    height: int = option(0, 'pixels; 0: as the camera is', low=0, high=20000)
    exposure_us: float = option(0.0, 'us; 0: as the camera is, often automatic', low=0, high=1e6)
    gain: float = option(-1.0, 'dB, or the camera\'s own unit; -1: as the camera is', low=-1, high=1000)
    crop: tuple[int, ...] = option((), 'x, y, width, height of what is kept of the picture; empty: all', low=0)
    latency_s: float = option(0.0, 's from exposure to arrival that is known, and subtracted from stamps', low=0, high=1)
    open_s: float = option(10.0, 's until the first picture', above=0, high=60)
    timeout_s: float = option(1.0, 's without a picture after which the camera is opened anew', above=0, high=60)
    retry_s: float = option(0.2, 's between the first two tries to open it anew, doubled each time', above=0, high=60)
    retry_max_s: float = option(5.0, 's between two tries at most', above=0, high=60)
    gone_s: float = option(60.0, 's without a picture after which it is lost for good', above=0)

    def __post_init__(self):
        if len(self.crop) not in (0, 4) or (self.crop and not min(self.crop[2:]) > 0):
            raise ValueError(f'crop must be empty or x, y, width, height, not {list(self.crop)}')


class _Session:
    """One opening of the camera, in a thread of its own, since what hangs below Python cannot be interrupted."""

    def __init__(self, run: Callable[[_Session], None], name: str):
        self.at = time.monotonic()      # of the newest picture, or of the start
        self.pictures = 0
        self.error: DeviceError | None = None
        self._thread = threading.Thread(target=run, args=(self,), name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self, error: DeviceError) -> None:
        """Notes why it ended, the first time."""
        # without the frames of a traceback, which would keep the camera
        self.error = self.error or error.with_traceback(None)

    def ended(self, timeout_s: float) -> bool:
        """Whether its thread has ended, and with it all that held the camera; waits for that."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class Camera:
    """An open camera; see `chef_control.devices.device.Device`. Stream: the camera's name.

    A camera that vanishes or hangs is opened anew, with bounded pauses, until it has been gone for `gone_s`; the gaps are
    counted in `diagnostics` and logged, and show in a bag by the stamps.

    Raises:
      DeviceError: it is missing, busy, not the right one, or gives no picture within `open_s`.
    """

    def __init__(self, settings: CameraSettings, on_batch: OnBatch, on_lost: OnLost):
        self._s, self._on_batch, self._on_lost = settings, on_batch, on_lost
        self._clock = CameraClock(latency_s=settings.latency_s)
        self._lock = threading.Lock()
        self._closing, self._ready = threading.Event(), threading.Event()
        self._session: _Session | None = None       # the one that is listened to
        self._refused: DeviceError | None = None
        self._last = 0.0                            # of the newest picture, monotonic, s
        self.gaps, self.gap_s, self.longest_gap_s, self.spoilt = 0, 0.0, 0.0, 0
        self._thread = threading.Thread(target=self._supervise, name=settings.name, daemon=True)
        self._thread.start()
        self._ready.wait(settings.open_s + 5.0)
        if self._refused is not None or not self._last:
            self.close()
            raise self._refused or DeviceError(f'{self.what} did not open within {settings.open_s:g} s')

    @property
    def what(self) -> str:
        """The camera, for messages."""
        return f'camera {self._s.name}'

    def open(self) -> Source:
        """Opens the camera and starts it; DeviceError if that cannot be done. Runs in a session's thread."""
        raise NotImplementedError

    def _grab_all(self, session: _Session) -> None:
        try:
            self._use(self.open(), session)
        except DeviceError as e:
            session.end(e)
        except Exception as e:      # what a camera's library raises is anybody's guess
            session.end(DeviceError(f'{self.what}: {type(e).__name__}: {e}'))

    def _use(self, source: Source, session: _Session) -> None:
        try:
            while self._session is session:
                picture = source.grab(self._s.timeout_s if session.pictures else self._s.open_s)
                if picture is None:
                    self.spoilt += 1
                else:
                    self._publish(session, picture)
        finally:
            source.close()

    def _publish(self, session: _Session, picture: Picture) -> None:
        image = self._cropped(picture.image)
        with self._lock:
            if self._session is not session:
                return
            now = time.monotonic()
            if session.pictures == 0 and self._last:
                gap = now - self._last
                self.gaps, self.gap_s = self.gaps + 1, self.gap_s + gap
                self.longest_gap_s = max(self.longest_gap_s, gap)
                _LOG.warning('%s is back after %.1f s without a picture', self.what, gap)
            session.at = self._last = now
            session.pictures += 1
            stamp = self._clock.stamp(picture.ticks_ns, picture.arrival_ns)
        self._ready.set()
        self._on_batch([{'stream': self._s.name, 'stamp': stamp, 'image': image}])

    def _cropped(self, image: np.ndarray) -> np.ndarray:
        if not self._s.crop:
            return image
        x, y, w, h = self._s.crop
        if x + w > image.shape[1] or y + h > image.shape[0]:
            raise DeviceError(f'{self.what}: crop {list(self._s.crop)} reaches beyond its picture of '
                              f'{image.shape[1]} x {image.shape[0]} pixels')
        return image[y:y + h, x:x + w]

    def _supervise(self) -> None:
        pause = self._s.retry_s
        while not self._closing.is_set():
            session = self._listen()
            if self._closing.is_set():
                return
            error = session.error or DeviceError(f'{self.what} gives no picture')
            if not self._last:
                self._refused = error
                self._ready.set()
                return
            if isinstance(error, EndOfSource):
                return self._on_lost(str(error))
            pause = self._s.retry_s if session.pictures else min(pause * 2, self._s.retry_max_s)
            if session.pictures:
                _LOG.warning('%s; it is opened anew until it is back', error)
            # One that hangs still has the camera: nobody else could open it.
            while not self._closing.wait(pause):
                if time.monotonic() - self._last > self._s.gone_s:
                    return self._on_lost(f'{error}; it has been gone for {self._s.gone_s:g} s')
                if session.ended(0.0):
                    break

    def _listen(self) -> _Session:
        """A session from its start until it ends, hangs, or the camera is closed."""
        session = _Session(self._grab_all, f'{self._s.name} pictures')
        with self._lock:
            self._session = session
        session.start()
        while not self._closing.is_set() and not session.ended(0.02):
            limit = self._s.timeout_s if session.pictures else self._s.open_s
            if time.monotonic() - session.at > limit:
                session.end(DeviceError(f'{self.what} gave no picture for {limit:g} s'))
                break
        with self._lock:
            self._session = None
        if self._closing.is_set():
            session.ended(2.0)
        return session

    def diagnostics(self) -> dict[str, int | float | str]:
        """For /diagnostics."""
        return {'gaps': self.gaps, 'gap_s': self.gap_s, 'longest_gap_s': self.longest_gap_s,
                'spoilt_pictures': self.spoilt, 'clock_resets': self._clock.resets,
                'clock_usable': str(self._clock.usable).lower()}

    def close(self) -> None:
        """Lets go of the camera."""
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
