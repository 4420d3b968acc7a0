# SPDX-License-Identifier: Apache-2.0
"""A cell's config to open devices: what is checked, what is filled in, and the driver nodes that own them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from chef_control import devices
from chef_control.devices import DeviceError
from chef_task.cell import CellConfig
from chef_task.settings import REQUIRED, option

URDF = Path(__file__).resolve().parents[4] / 'config' / 'robots' / 'sawyer.urdf'


class Lever:
    """A device of the test's own."""

    @dataclass(frozen=True)
    class Settings:
        port: str = option(REQUIRED, 'where it is')
        name: str = option('', 'of the device')
        joints: tuple[str, ...] = option((), 'of the arm')
        calibration: str = option('', 'path')
        rate_hz: float = option(1.0, 'Hz', above=0.0)

    opened: list = []

    def __init__(self, settings, on_batch, on_lost):
        if settings.port == 'absent':
            raise DeviceError(f'{settings.name}: there is no {settings.port}')
        self.settings, self.on_batch, self.on_lost, self.sent, self.closed = settings, on_batch, on_lost, [], False
        Lever.opened.append(self)

    def send(self, command):
        self.sent.append(command)

    def close(self):
        self.closed = True


sys.modules.setdefault('lever_of_the_test', sys.modules[__name__])
MINE = 'lever_of_the_test:Lever'


def config(folder: Path, **changes) -> Path:
    """The file of a real cell whose devices are all levers; a change of None leaves a key out."""
    lever = {'driver': MINE, 'port': '/dev/x'}
    values = {'kind': 'real', 'urdf': str(URDF), 'home_rad': [0.0, -0.5, -0.5, 1.2, 0.4, 1.0, 0.0],
              'devices': {**{role: dict(lever) for role in devices.ROLES}, 'cameras': {'basket_back_left': lever}},
              **changes}
    path = folder / 'cell.yaml'
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return path


def load(folder: Path, **changes) -> CellConfig:
    return CellConfig.load(config(folder, **changes))


def test_a_device_is_opened_with_what_the_cell_fills_in(tmp_path):
    cell = load(tmp_path, calibration='cal.yaml', rates_hz={'render': 30})
    assert list(devices.places(cell)) == [('arm', ''), ('gripper', ''), ('wrench', ''), ('tracker', ''),
                                          ('cameras', 'basket_back_left')]
    camera = devices.open_device(cell, 'cameras', print, print, 'basket_back_left')
    assert camera.settings == Lever.Settings('/dev/x', 'basket_back_left', cell.joints,
                                             str(tmp_path / 'cal.yaml'), 30.0)


def test_what_the_config_says_goes_before_what_the_cell_fills_in(tmp_path):
    parts = {role: {'driver': MINE, 'port': 'p', 'rate_hz': 500} for role in devices.ROLES}
    assert devices.device_settings(load(tmp_path, devices=parts), 'arm').rate_hz == 500


ARM = {'driver': MINE, 'port': 'p'}
OTHERS = {role: ARM for role in ('gripper', 'wrench', 'tracker')}


@pytest.mark.parametrize('changes, error', [
    ({'devices': None}, 'devices.arm is missing'),
    ({'devices': OTHERS}, 'devices.arm is missing'),
    ({'devices': {'leg': ARM, 'arm': ARM, **OTHERS}}, "devices: unknown key 'leg'"),
    ({'devices': {'arm': {'port': 'p'}, **OTHERS}}, 'devices.arm must be a mapping with a driver'),
    ({'devices': {'arm': ARM, **OTHERS, 'cameras': {'front': ARM}}}, "devices.cameras: unknown key 'front'"),
    ({'devices': [1]}, 'devices must map arm'),
    ({'joints': ['a', 'b']}, 'joints must hold the names of 7 joints'),
    ({'joints': ['a'] * 7}, 'joints names one joint twice'),
    ({'home_rad': [0, -30, 0, 70, 0, 60, 0]}, 'home_rad holds 70, beyond a turn: it is in rad, not in degrees'),
    ({'calibration': [1]}, 'calibration must be a path'),
    ({'kind': 'simulated'}, 'devices: only a cell of kind real has them'),
])
def test_a_config_that_is_wrong_says_so_in_one_line(tmp_path, changes, error):
    with pytest.raises(ValueError) as caught:
        load(tmp_path, **changes)
    assert f'cell.yaml: {error}' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('arm, error', [
    ({'driver': MINE}, 'devices.arm.port is missing'),
    ({'driver': MINE, 'port': 3}, 'devices.arm.port must be text, not 3'),
    ({'driver': MINE, 'port': 'p', 'baud': 3}, "unknown key 'devices.arm.baud'"),
    ({'driver': MINE, 'port': 'p', 'rate_hz': 0}, 'devices.arm.rate_hz must be above 0'),
    ({'driver': 'steam'}, "devices.arm.driver: there is no 'steam', known are"),
    ({'driver': 'no_such_module:Arm'}, "needs the Python package 'no_such_module', which is not installed"),
    ({'driver': 'json:Arm'}, 'cannot be imported'),
    ({'driver': 'json:dumps'}, 'has no dataclass Settings'),
    ({'driver': ':'}, 'cannot be imported'),
])
def test_settings_that_are_wrong_are_named_by_their_key(tmp_path, arm, error):
    cell = load(tmp_path, devices={'arm': arm, **OTHERS})
    with pytest.raises(ValueError) as caught:
        devices.device_settings(cell, 'arm')
    assert error in str(caught.value) and '\n' not in str(caught.value)


def test_a_device_that_is_not_there_is_a_device_error(tmp_path):
    cell = load(tmp_path, devices={'arm': {'driver': MINE, 'port': 'absent'}, **OTHERS})
    with pytest.raises(DeviceError, match='arm: there is no absent'):
        devices.open_device(cell, 'arm', print, print)


def test_a_tracker_that_needs_a_world_says_so(tmp_path):
    tracker = {'driver': 'chef_control.fakes.world_tracker:WorldTracker'}
    cell = load(tmp_path, devices={'arm': ARM, **OTHERS, 'tracker': tracker})
    with pytest.raises(ValueError, match='WorldTracker knows simulated worlds only'):
        devices.open_device(cell, 'tracker', print, print)
