# SPDX-License-Identifier: Apache-2.0
"""Basler cameras by pylon (pypylon): GigE Vision, USB3 Vision, and pylon's emulation of cameras.

Names of features follow the Standard Features Naming Convention; those in second place are of older GigE cameras
(Basler's product documentation, *Features*).
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass

from pypylon import genicam, pylon

from chef_control.devices.camera import Camera, CameraSettings, Picture
from chef_control.devices.device import DeviceError
from chef_task.settings import option

_PR_SET_TIMERSLACK = 29     # linux/prctl.h


@dataclass(frozen=True, kw_only=True)
class Settings(CameraSettings):
    """Settings of a Basler camera. With serial '' it takes the only one that is there."""

    pixel_format: str = option('', 'of the camera, e.g. BayerRG8; empty: as it is. Pictures are RGB in any case')
    emulation_folder: str = option('', 'folder with pictures that an emulated camera shows (PYLON_CAMEMU); else empty')


class BaslerCamera(Camera):
    """A camera of a real cell; see `Camera`."""

    Settings = Settings

    def open(self) -> _Basler:
        return _Basler(f'{self.what} (Basler {self._s.serial})' if self._s.serial else f'{self.what} (Basler)', self._s)


class _Basler:
    def __init__(self, what: str, settings: Settings):
        self._what, self._s = what, settings
        self._camera = None
        if settings.emulation_folder:
            _coarse_timers()
        try:
            self._camera = pylon.InstantCamera(pylon.TlFactory.GetInstance().CreateDevice(self._find()))
            self._open()
            self._configure()
            self._camera.StartGrabbing(pylon.GrabStrategy_LatestImageOnly)
        except genicam.GenericException as e:
            self.close()
            raise DeviceError(f'{what}: {_first_line(e)}') from None
        except BaseException:
            self.close()
            raise
        self._converter = pylon.ImageFormatConverter()
        self._converter.OutputPixelFormat = pylon.PixelType_RGB8packed
        self._tick_ns = self._tick()

    def _find(self):
        devices = pylon.TlFactory.GetInstance().EnumerateDevices()
        serials = [d.GetSerialNumber() for d in devices]
        if not devices:
            raise DeviceError(f'{self._what}: there is no Basler camera; is it plugged in and powered?')
        if not self._s.serial:
            if len(devices) > 1:
                raise DeviceError(f'{self._what}: there are several, choose one by its serial: {", ".join(serials)}')
            return devices[0]
        if self._s.serial not in serials:
            raise DeviceError(f'{self._what} is not there; there are {", ".join(serials)}')
        return devices[serials.index(self._s.serial)]

    def _open(self) -> None:
        try:
            self._camera.Open()
        except genicam.GenericException as e:
            text = _first_line(e)
            busy = 'controlled' in text or 'exclusive' in text or 'access denied' in text.lower()
            raise DeviceError(f'{self._what} ' + ('is busy: another program has it' if busy else
                                                  f'cannot be opened: {text}')) from None

    def _configure(self) -> None:
        s = self._s
        if s.emulation_folder:
            if not os.path.isdir(s.emulation_folder):
                raise DeviceError(f'{self._what}: there is no emulation_folder {s.emulation_folder!r}')
            self._set('emulation_folder', ('TestImageSelector',), 'Off')
            self._set('emulation_folder', ('ImageFilename',), s.emulation_folder)
            self._set('emulation_folder', ('ImageFileMode',), 'On')
            self._set('pixel_format', ('PixelFormat',), s.pixel_format or 'RGB8Packed')
        elif s.pixel_format:
            self._set('pixel_format', ('PixelFormat',), s.pixel_format)
        if s.width:
            self._set('width', ('Width',), s.width)
        if s.height:
            self._set('height', ('Height',), s.height)
        if s.exposure_us:
            self._set('exposure_us', ('ExposureAuto',), 'Off', need=False)
            self._set('exposure_us', ('ExposureTime', 'ExposureTimeAbs'), s.exposure_us)
        if s.gain >= 0:
            self._set('gain', ('GainAuto',), 'Off', need=False)
            self._set('gain', ('Gain', 'GainRaw'), s.gain)
        self._set('rate_hz', ('AcquisitionFrameRateEnable',), True, need=False)
        self._set('rate_hz', ('AcquisitionFrameRate', 'AcquisitionFrameRateAbs'), s.rate_hz, need=False)

    def _set(self, key: str, names: tuple[str, ...], value, need: bool = True) -> None:
        """The first of the features that the camera has; DeviceError if it has none, or does not take the value."""
        for name in names:
            node = self._camera.GetNodeMap().GetNode(name)
            if node is not None and genicam.IsWritable(node):
                break
        else:
            if need:
                raise DeviceError(f'{self._what} has no {names[0]} that can be set, so {key} is not possible')
            return
        try:
            if isinstance(node, genicam.IInteger):
                node.SetValue(round(value))
            elif isinstance(node, genicam.IEnumeration):
                node.FromString(value)
            else:
                node.SetValue(value)
        except genicam.GenericException as e:
            raise DeviceError(f'{self._what} does not take {key} {value!r}: {_first_line(e)}') from None

    def _tick(self) -> float:
        """ns of one tick of its clock: GigE cameras tell a frequency, others count ns."""
        node = self._camera.GetNodeMap().GetNode('GevTimestampTickFrequency')
        if node is not None and genicam.IsReadable(node) and node.GetValue() > 0:
            return 1e9 / node.GetValue()
        return 1.0

    def grab(self, timeout_s: float) -> Picture | None:
        try:
            result = self._camera.RetrieveResult(max(1, int(timeout_s * 1000)), pylon.TimeoutHandling_ThrowException)
        except genicam.TimeoutException:
            raise DeviceError(f'{self._what} gave no picture for {timeout_s:g} s') from None
        except genicam.GenericException as e:
            raise DeviceError(f'{self._what}: {_first_line(e)}') from None
        arrival = time.time_ns()
        if not result.IsValid():
            raise DeviceError(f'{self._what} has stopped')
        try:
            if not result.GrabSucceeded():
                if self._camera.IsCameraDeviceRemoved():
                    raise DeviceError(f'{self._what} was unplugged')
                return None
            image = self._converter.Convert(result).GetArray().copy()
            ticks = result.TimeStamp    # 0: it has no clock, as emulated ones
            return Picture(image, round(ticks * self._tick_ns) if ticks else None, arrival)
        finally:
            result.Release()

    def close(self) -> None:
        if self._camera is not None:
            try:
                self._camera.Close()
                self._camera.DestroyDevice()
            except genicam.GenericException:
                pass    # it is gone already


def _coarse_timers() -> None:
    """Lets short sleeps of this thread, and of those that it starts, last a millisecond longer.

    The emulation's own thread looks at its clock so often that it takes a sixth of a core, whatever the rate.
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1_000_000))


def _first_line(e: genicam.GenericException) -> str:
    """What pylon says, without where in its sources."""
    text = (e.GetDescription() if hasattr(e, 'GetDescription') else str(e)).strip()
    return text.partition(' : ')[0].partition('\n')[0]
