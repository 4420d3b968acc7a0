# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a cell's config beyond its form, found without touching a device. No ROS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from chef_control import devices
from chef_control.calibration import file
from chef_control.calibration.board import CalibrationError
from chef_control.kinematics import Kinematics
from chef_task.cell import CellConfig

# settings that say where a device is; no two devices are at one place
FAR_M = 0.3     # m, of the pinch point at home from the boxes that it is to work in
ADDRESSES = ('port', 'serial', 'serial_number', 'device', 'index', 'source')


def problems(cell: CellConfig, fake: bool = False) -> Iterator[str]:
    """One line each, the first being the one to mend first; nothing if all but the calibration is as it should be.

    fake: its devices are faked, so whatever says where they are does not count.
    """
    try:
        kinematics = Kinematics(cell.urdf, cell.joints, cell.pinch)
    except ValueError as e:
        yield f'joints: {e}'
        return
    lower, upper = kinematics.joint_limits
    for joint, at, low, high in zip(cell.joints, cell.home_rad, lower, upper):
        if not low <= at <= high:
            yield f'home_rad: {at:g} rad is out of the range of joint {joint}, {low:.3g}..{high:.3g} rad'
    yield from _limits(cell, kinematics)
    if cell.real and cell.reset == 'place' and not fake:
        yield 'reset: place lets the simulation put the objects; a real cell needs another one'
    found: dict[tuple[str, object], str] = {}
    for role, name in devices.places(cell) if cell.real else ():
        where = devices.where(role, name)
        try:
            settings = devices.device_settings(cell, role, name)
        except ValueError as e:
            yield str(e)
            continue
        for key in ADDRESSES:
            value = getattr(settings, key, None)
            if value in (None, '') or isinstance(value, bool):
                continue
            other = found.setdefault((key, value), where)
            if other != where and not fake:
                yield f'{where}.{key} is {value!r}, which is also that of {other}'


def calibration_problems(cell: CellConfig, fake: bool = False) -> Iterator[str]:
    """What a cell lacks for its tracker to see where things are, and cameras that are not those that were calibrated."""
    if not cell.real:
        return
    path = cell.calibration
    if not fake and path is not None and not path.is_file():
        yield f'calibration: there is no file {str(path)!r}; ./chef calibrate makes it (docs/tracking.md)'
        return
    try:
        of_tracker = getattr(devices.device_class(cell, 'tracker'), 'problems', None)
        lines = list(of_tracker(devices.device_settings(cell, 'tracker'), cell.devices[devices.CAMERAS], fake)) \
            if of_tracker else []
        serials = {name: getattr(devices.device_settings(cell, devices.CAMERAS, name), 'serial', '')
                   for name in cell.devices[devices.CAMERAS]}
    except ValueError:      # told of by `problems`
        return
    yield from (f'devices.tracker: {line}' for line in lines)
    if fake or path is None:
        return
    try:
        calibrated = file.load(path).serials
    except CalibrationError:    # a tracker of one's own may have a format of its own
        return
    yield from _swapped(serials, calibrated, path)


def _swapped(serials: Mapping[str, str], calibrated: Mapping[str, str], path: Path) -> Iterator[str]:
    """Cameras that another one of the file was; serial numbers by name, '' where they are not known."""
    told = set()
    for name, serial in serials.items():
        before = calibrated.get(name, '')
        if not serial or not before or serial == before or name in told:
            continue
        other = next((n for n, s in calibrated.items() if s == serial), '')
        if other:
            told.add(other)
            yield (f'devices.cameras.{name}: its serial {serial} was calibrated as {other} in {path}; '
                   f'are {name} and {other} swapped?')
        else:
            yield (f'devices.cameras.{name}: its serial is {serial}, {path} was measured with {before}; calibrate it anew '
                   '(docs/tracking.md)')


def _limits(cell: CellConfig, kinematics: Kinematics) -> Iterator[str]:
    """Numbers that this arm cannot mean: most often they are in other units."""
    limits = cell.limits
    position, _ = kinematics.pose(cell.home_rad, 'pinch')
    for box in ('workspace', 'reset'):
        centre, size = getattr(limits, f'{box}_centre_m'), getattr(limits, f'{box}_size_m')
        off = np.abs(position - centre) - np.asarray(size) / 2
        if off.max() > FAR_M:
            yield (f'limits.{box}_centre_m: at home_rad the pinch point is {off.max():.2f} m outside this box along '
                   f'{"xyz"[int(off.argmax())]}; it is in m, in the frame of the base')
    for joint, asked, able in zip(cell.joints, limits.joint_velocity_rad_s, kinematics.speed_limits):
        if 0 < able < asked * 0.999:
            yield f'limits.joint_velocity_rad_s: {asked:g} rad/s is more than the URDF allows {joint}, {able:.3g} rad/s'
