# SPDX-License-Identifier: Apache-2.0
"""The devices of real cells: which driver names there are, and how a cell's config becomes an open device.

A driver is a name of `DRIVERS`, or `module:Class` for a class of your own. Its settings are the frozen dataclass
`Class.Settings` (see `chef_task.settings`). Fields of these names are filled in from the cell where the config does
not give them:

    name          the device's name: its role, of a camera the camera's name, which is also its samples' stream
    joints        names of the arm's joints
    urdf          absolute path of the URDF
    pinch         where the gripper is on the arm, a `chef_task.cell.Mount`; without a link if the URDF says it
    calibration   absolute path of the calibration, '' if the cell names none
    rate_hz       the native rate that the cell states for its stream
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chef_control.devices.device import Device, DeviceError, OnBatch, OnLost
from chef_task import settings
from chef_task.cell import ROLES, CellConfig, Mount
from chef_task.yaml_file import short

__all__ = ['DRIVERS', 'Device', 'DeviceError', 'Driver', 'device_class', 'device_settings', 'open_device', 'places']

CAMERAS = 'cameras'


@dataclass(frozen=True)
class Driver:
    """Where a driver is found; imported only by the process that opens the device.

    device: 'module:Class'. fake: 'module:function' that says how to do without the hardware, (entry of the config,
    `chef_control.fakes.plan.Context`) -> `chef_control.fakes.plan.Fake`; '' if that is not possible. A class of your
    own says it by an attribute FAKE.
    """

    device: str
    fake: str = ''


# (role, driver's name) to where it is
DRIVERS: dict[tuple[str, str], Driver] = {
    ('arm', 'ros2_control'): Driver('chef_control.devices.ros2_control:Ros2Control',
                                    'chef_control.fakes.arm_plans:ros2_control'),
    ('arm', 'sawyer'): Driver('chef_control.devices.sawyer:Sawyer', 'chef_control.fakes.arm_plans:sawyer'),
    ('gripper', 'robotiq_2f85'): Driver('chef_control.devices.robotiq_2f85:Robotiq2F85',
                                        'chef_control.fakes.robotiq_2f85:fake'),
    ('wrench', 'robotiq_fts300'): Driver('chef_control.devices.robotiq_fts300:RobotiqFTS300',
                                         'chef_control.fakes.robotiq_fts300:fake'),
    (CAMERAS, 'opencv'): Driver('chef_control.devices.opencv_camera:OpenCVCamera',
                                'chef_control.fakes.opencv_camera:fake'),
    (CAMERAS, 'basler'): Driver('chef_control.devices.basler_camera:BaslerCamera',
                                'chef_control.fakes.basler_camera:fake'),
    ('tracker', 'colour'): Driver('chef_control.devices.colour_tracker:ColourTracker', 'chef_control.fakes.colour_tracker:fake'),
}
FILLED = ('name', 'joints', 'urdf', 'calibration', 'rate_hz')     # settings that the cell fills in
_STREAM = {'arm': 'joints', 'gripper': 'gripper', 'wrench': 'wrench', 'tracker': 'objects', CAMERAS: 'render'}


def places(cell: CellConfig) -> Iterator[tuple[str, str]]:
    """(role, name) of all devices of the cell; name is '' but for cameras."""
    for role in ROLES:
        yield role, ''
    for name in cell.devices[CAMERAS]:
        yield CAMERAS, name


def entry(cell: CellConfig, role: str, name: str = '') -> dict:
    """What the config holds for a device; ValueError if it holds nothing."""
    devices = cell.devices.get(role) if role != CAMERAS else cell.devices.get(CAMERAS, {}).get(name)
    if devices is None:
        raise ValueError(f'{where(role, name)} is missing')
    return dict(devices)


def where(role: str, name: str = '') -> str:
    """The config's key of a device."""
    return f'devices.{role}.{name}' if name else f'devices.{role}'


def driver_of(role: str, driver: str, path: str = '') -> Driver:
    """The driver of that name; ValueError if there is none."""
    if ':' in driver:
        return Driver(driver)
    if (role, driver) not in DRIVERS:
        known = sorted(name for r, name in DRIVERS if r == role)
        raise ValueError(f'{path or where(role)}.driver: there is no {short(driver)}, known are '
                         f'{", ".join([*known, "module:Class"])}')
    return DRIVERS[role, driver]


def device_class(cell: CellConfig, role: str, name: str = '') -> type:
    """The class that opens the device; ValueError if the driver is unknown or cannot be imported."""
    path = where(role, name)
    driver = driver_of(role, entry(cell, role, name)['driver'], path)
    module, _, attribute = driver.device.partition(':')
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as e:
        package = (e.name or module).partition('.')[0]
        raise ValueError(f'{path}.driver: {short(driver.device)} needs the Python package {package!r}, '
                         'which is not installed') from None
    except (ImportError, AttributeError, ValueError, TypeError) as e:
        raise ValueError(f'{path}.driver: {short(driver.device)} cannot be imported: {short(str(e))}') from None
    if not dataclasses.is_dataclass(getattr(cls, 'Settings', None)):
        raise ValueError(f'{path}.driver: {short(driver.device)} has no dataclass Settings')
    return cls


def device_settings(cell: CellConfig, role: str, name: str = '') -> Any:
    """The device's settings, checked, with what the cell fills in; ValueError naming the config's key."""
    cls = device_class(cell, role, name)
    values = entry(cell, role, name)
    values.pop('driver')
    known = {f.name for f in dataclasses.fields(cls.Settings)}
    filled = {'name': name or role, 'joints': cell.joints, 'urdf': str(cell.urdf),
              'pinch': settings.to_dict(cell.pinch or Mount()),
              'calibration': str(cell.calibration or ''), 'rate_hz': cell.rates_hz[_STREAM[role]]}
    values = {**{k: v for k, v in filled.items() if k in known}, **values}
    return settings.build(cls.Settings, values, where(role, name))


def open_device(cell: CellConfig, role: str, on_batch: OnBatch, on_lost: OnLost, name: str = '') -> Device:
    """Opens a device of the cell; name: of the camera.

    Raises:
      ValueError: the config is wrong.
      DeviceError: the device is missing, busy or answers nonsense.
    """
    return device_class(cell, role, name)(device_settings(cell, role, name), on_batch, on_lost)
