# SPDX-License-Identifier: Apache-2.0
"""What a doctor looks at in a cell; each check gives verdicts as they are known."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chef_control import cell_check, devices
from chef_control.devices import Device, DeviceError
from chef_control.doctor.ear import Ear
from chef_control.doctor.verdict import FAIL, OK, WARN, Verdict
from chef_control.urdf import joint_range
from chef_task.cell import CellConfig
from chef_task.limits import Limits
from chef_task.spaces import CAMERAS, CONTROL_HZ, IMAGE_SHAPE

OPEN_S = 45.0           # s, for all devices to open; the slowest is an arm that is enabled first
CLOSE_S = 10.0
RETRY_S = 0.5
DISK_GIB, DISK_LEAST_GIB = 50.0, 2.0
WRITTEN_MIB = 64        # by the probe of the disk
CALIBRATION_DAYS = 90.0


def config(cell: CellConfig, path: Path, fake: bool) -> Iterator[Verdict]:
    """The file, against the URDF, the devices' own settings, and itself."""
    found = list(cell_check.problems(cell, fake))
    for problem in found:
        yield Verdict(FAIL, 'config', f'{path}: {problem}')
    if not found:
        yield Verdict(OK, 'config', f'{path}: kind {cell.kind}, reset {cell.reset}, gripper {cell.gripper}')
        yield Verdict(OK, 'arm description', f'{cell.urdf}: {len(cell.joints)} joints, frames tcp and pinch')


def limits(cell: CellConfig) -> Iterator[Verdict]:
    """What stops the arm, and whether that is looser than what CHEF comes with."""
    here, usual = cell.limits, Limits()
    text = (f'force {here.force_n:g} N, speeds up to {max(here.joint_velocity_rad_s) * here.joint_velocity_scale:.2f} '
            f'rad/s, workspace {" x ".join(f"{s:g}" for s in here.workspace_size_m)} m, '
            f'commands {here.command_age_s * 1e3:.0f} ms')
    if here.is_tighter_than(usual):
        yield Verdict(OK, 'limits', text)
        return
    loose = [f.name for f in dataclasses.fields(Limits) if getattr(here, f.name) != getattr(usual, f.name)
             and not dataclasses.replace(usual, **{f.name: getattr(here, f.name)}).is_tighter_than(usual)]
    yield Verdict(WARN, 'limits', f'{text}; looser than the defaults: {", ".join(loose) or "in combination"}')


def disk(folder: Path) -> Iterator[Verdict]:
    """Room and speed of the disk that bags go to."""
    at = folder
    while not at.exists() and at != at.parent:
        at = at.parent
    try:
        free = shutil.disk_usage(at).free / 2**30
        started = time.monotonic()
        with tempfile.TemporaryFile(dir=at) as probe:
            for _ in range(WRITTEN_MIB):
                probe.write(os.urandom(2**20))
            probe.flush()
            os.fsync(probe.fileno())
        speed = WRITTEN_MIB / (time.monotonic() - started)
    except OSError as e:
        yield Verdict(FAIL, 'disk', f'cannot write below {at}: {e.strerror}')
        return
    raw = len(CAMERAS) * np.prod(IMAGE_SHAPE) * CONTROL_HZ / 2**20     # MiB/s of all cameras without any codec
    text = f'{free:.0f} GiB free at {at}, at least {free * 1024 / raw / 3600:.0f} h; writes {speed:.0f} MiB/s'
    level = FAIL if free < DISK_LEAST_GIB or speed < raw else WARN if free < DISK_GIB or speed < 4 * raw else OK
    yield Verdict(level, 'disk', text)


def calibration(cell: CellConfig, fake: bool) -> Iterator[Verdict]:
    """Whether there is one, of these cameras, and how old it is."""
    path, found = cell.calibration, list(cell_check.calibration_problems(cell, fake))
    for problem in found:
        yield Verdict(FAIL, 'calibration', problem)
    if found:
        return
    if fake:
        yield Verdict(OK, 'calibration', "fake cameras see as the simulated world's do")
    elif path is None:
        yield Verdict(WARN, 'calibration', 'the config names none')
    else:
        days = (time.time() - path.stat().st_mtime) / 86400
        text = f'{path}: {days:.0f} days old'
        yield Verdict(WARN, 'calibration', f'{text}; do it anew') if days > CALIBRATION_DAYS else \
            Verdict(OK, 'calibration', text)


class Devices:
    """Opens all devices of a cell at the same time, as its graph does, and listens to them; nothing is moved.

    Args:
      patience_s: s that a device may take to appear; 0: it has to be there.
    """

    def __init__(self, cell: CellConfig, patience_s: float = 0.0):
        self._cell, self._patience_s = cell, patience_s
        self._range = joint_range(cell.urdf, cell.joints)
        self._open: dict[tuple[str, str], Device] = {}
        self._ears: dict[tuple[str, str], Ear] = {}
        self._errors: dict[tuple[str, str], str] = {}
        self._took: dict[tuple[str, str], float] = {}

    def check(self, seconds: float) -> Iterator[Verdict]:
        """A verdict for each device as it is opened, then for each stream after so many s of listening."""
        places = list(devices.places(self._cell))
        threads = {place: threading.Thread(target=self._open_one, args=place, daemon=True) for place in places}
        for thread in threads.values():
            thread.start()
        end = time.monotonic() + OPEN_S
        try:
            for place, thread in threads.items():
                thread.join(max(0.0, end - time.monotonic()))
                yield self._opened(place)
            for ear in list(self._ears.values()):
                ear.restart()
            time.sleep(seconds)
            for place in places:
                if place in self._open:
                    yield from self._ears[place].verdicts()
            yield from self._compare_cameras()
        finally:
            self._close()

    def _open_one(self, role: str, name: str) -> None:
        place, started = (role, name), time.monotonic()
        while True:
            ear = Ear(self._cell, role, name, self._range)
            on_batch = ear.on_batch if role != devices.CAMERAS else functools.partial(self._on_pictures, ear)
            try:
                device = devices.open_device(self._cell, role, on_batch, ear.on_lost, name)
            except (DeviceError, ValueError) as e:
                if isinstance(e, ValueError) or time.monotonic() - started > self._patience_s:
                    self._errors[place] = str(e)
                    return
            except Exception as e:      # a driver's own fault is a finding too
                self._errors[place] = f'the driver failed: {type(e).__name__}: {e}'
                return
            else:
                self._took[place] = time.monotonic() - started
                self._ears[place], self._open[place] = ear, device
                return
            time.sleep(RETRY_S)

    def _on_pictures(self, ear: Ear, samples: list[dict]) -> None:
        """For the ear, and for a tracker that looks at the cameras' pictures, as its node hands them to it."""
        ear.on_batch(samples)
        feed = getattr(self._open.get(('tracker', '')), 'feed', None)
        for sample in samples if feed else ():
            feed(ear.name, sample['image'], sample['stamp'])

    def _opened(self, place: tuple[str, str]) -> Verdict:
        role, name = place
        what = f'device {name or role}'
        if place in self._open:
            driver = devices.entry(self._cell, role, name)['driver']
            return Verdict(OK, what, f'{driver} opened in {self._took[place]:.1f} s')
        return Verdict(FAIL, what, self._errors.get(place, f'did not open within {OPEN_S:g} s'))

    def _compare_cameras(self) -> Iterator[Verdict]:
        """Two cameras with the very same picture are one."""
        seen: dict[bytes, str] = {}
        for (role, name), ear in self._ears.items():
            newest = ear.newest(name) if role == devices.CAMERAS else None
            if newest is None:
                continue
            other = seen.setdefault(newest['image'].tobytes(), name)
            if other != name:
                yield Verdict(FAIL, f'stream {name}', f'shows the very picture of {other}')

    def _close(self) -> None:
        closing = [threading.Thread(target=d.close, daemon=True) for d in self._open.values()]
        for thread in closing:
            thread.start()
        end = time.monotonic() + CLOSE_S
        for thread in closing:
            thread.join(max(0.0, end - time.monotonic()))
