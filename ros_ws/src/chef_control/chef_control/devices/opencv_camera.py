# SPDX-License-Identifier: Apache-2.0
"""Cameras that OpenCV opens: USB cameras by Video4Linux, network cameras by RTSP or HTTP, files."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

# Video4Linux's own limit on waiting for a picture, s; read when OpenCV is loaded.
os.environ.setdefault('OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT', '2')
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '8')      # AV_LOG_FATAL: what fails is said here

import cv2  # noqa: E402

from chef_control.devices.camera import Camera, CameraSettings, EndOfSource, Picture  # noqa: E402
from chef_control.devices.device import DeviceError  # noqa: E402
from chef_task.settings import REQUIRED, option  # noqa: E402

_V4L_EXPOSURE_UNIT_US = 100.0       # of V4L2_CID_EXPOSURE_ABSOLUTE
_V4L_MANUAL = 1                     # V4L2_EXPOSURE_MANUAL
_READ_S = 2.0       # s that a network camera may take from one picture to the next, at least
_SYSFS = Path('/sys/class/video4linux')


@dataclass(frozen=True, kw_only=True)
class Settings(CameraSettings):
    """Settings of an OpenCV camera."""

    source: str = option(REQUIRED, 'device (/dev/v4l/by-id/..., or a number), address (rtsp://..., http://...), or file')
    fourcc: str = option('', 'pixel format asked of a USB camera, e.g. MJPG; empty: as it is')
    stamps: str = option('auto', 'device: by the camera\'s own clock; arrival: when a picture arrives; auto: device for USB '
                         'and RTSP', choices=('auto', 'device', 'arrival'))
    loop: bool = option(False, 'begin a file anew at its end')

    def __post_init__(self):
        super().__post_init__()
        if self.fourcc and len(self.fourcc) != 4:
            raise ValueError(f'fourcc must have 4 letters, not {self.fourcc!r}')


class OpenCVCamera(Camera):
    """A camera of a real cell; see `Camera`."""

    Settings = Settings

    def open(self) -> _Video:
        return _Video(self.what, self._s)


class _Video:
    def __init__(self, what: str, settings: Settings):
        self._s, source = settings, settings.source
        self._what = f'{what} at {_without_password(source)}'
        path = f'/dev/video{source}' if source.isdigit() else source
        self._is_device = path.startswith('/dev/')
        self._is_file = not self._is_device and '://' not in path
        if (self._is_device or self._is_file) and not os.path.exists(path):
            raise DeviceError(f'{self._what}: there is no such {"device; is it plugged in?" if self._is_device else "file"}')
        stamps = settings.stamps
        if stamps == 'auto':
            stamps = 'device' if self._is_device or source.startswith('rtsp') else 'arrival'
        self._by_device = stamps == 'device'
        self._due = 0.0
        self._video = cv2.VideoCapture()
        try:
            if self._is_device:
                self._open_device(os.path.realpath(path))
            else:
                self._open_stream(path)
        except BaseException:
            self.close()
            raise

    def _open_device(self, node: str) -> None:
        if self._s.serial:
            serial = usb_serial(node)
            if serial != self._s.serial:
                raise DeviceError(f'{self._what} has the serial number {serial!r}, not {self._s.serial!r}: are two cameras '
                                  'swapped?')
        if not self._video.open(node, cv2.CAP_V4L2):
            raise DeviceError(f'{self._what} cannot be opened; another program may have it, or this user may not')
        s = self._s
        if s.fourcc:
            self._video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*s.fourcc))
        self._video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._set(cv2.CAP_PROP_FRAME_WIDTH, s.width, 'width', s.width > 0)
        self._set(cv2.CAP_PROP_FRAME_HEIGHT, s.height, 'height', s.height > 0)
        self._video.set(cv2.CAP_PROP_FPS, s.rate_hz)        # cameras take the nearest rate they have
        if s.exposure_us:
            self._video.set(cv2.CAP_PROP_AUTO_EXPOSURE, _V4L_MANUAL)
            self._set(cv2.CAP_PROP_EXPOSURE, round(s.exposure_us / _V4L_EXPOSURE_UNIT_US), 'exposure_us', True)
        self._set(cv2.CAP_PROP_GAIN, s.gain, 'gain', s.gain >= 0)

    def _set(self, key: int, value: float, name: str, wanted: bool) -> None:
        if wanted:
            self._video.set(key, value)
            got = self._video.get(key)
            if abs(got - value) > 0.5:
                raise DeviceError(f'{self._what} does not take {name} {getattr(self._s, name):g}: it says {got:g}')

    def _open_stream(self, path: str) -> None:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(self._s.open_s * 1000),
                  cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(max(self._s.timeout_s, _READ_S) * 1000),
                  cv2.CAP_PROP_N_THREADS, 1]      # each further one holds a picture back
        if not self._video.open(path, cv2.CAP_FFMPEG, limits):
            raise DeviceError(f'{self._what} cannot be opened' +
                              ('; is it a video?' if self._is_file else ' or does not answer'))

    def grab(self, timeout_s: float) -> Picture:    # the limits on waiting were set when it was opened
        if self._is_file:
            self._wait_until_due()
        good, image = self._video.read()
        arrival = time.time_ns()
        if not good and self._is_file:
            if not self._s.loop:
                raise EndOfSource(f'{self._what} has ended')
            self._video.set(cv2.CAP_PROP_POS_FRAMES, 0)
            good, image = self._video.read()
        if not good:
            raise DeviceError(f'{self._what} gives no pictures any more')
        ticks = round(self._video.get(cv2.CAP_PROP_POS_MSEC) * 1e6) if self._by_device else None
        code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
        return Picture(cv2.cvtColor(image, code), ticks or None, arrival)

    def _wait_until_due(self) -> None:
        """A file is played at the rate that is asked for."""
        now = time.monotonic()
        time.sleep(max(0.0, self._due - now))
        self._due = max(self._due, now) + 1.0 / self._s.rate_hz

    def close(self) -> None:
        self._video.release()


def usb_serial(node: str, sysfs: Path = _SYSFS) -> str:
    """The serial number of the USB camera at a device node such as /dev/video0; '' if it tells none."""
    device = (sysfs / os.path.basename(node) / 'device').resolve()      # the USB interface, below the USB device
    try:
        return (device.parent / 'serial').read_text().strip()
    except OSError:
        return ''


def _without_password(source: str) -> str:
    return re.sub(r'//[^/@]*@', '//***@', source)
