# SPDX-License-Identifier: Apache-2.0
"""What is found wrong with a calibration and its cell before a device is touched."""

from __future__ import annotations

import pytest
from test_devices import ARM, OTHERS, load

from chef_control.calibration import file
from chef_control.cell_check import calibration_problems
from chef_control.fakes.colour_tracker import fake, truth
from chef_control.fakes.plan import Context
from chef_task.spaces import CAMERAS

LEFT, RIGHT, BACK = CAMERAS
SERIALS = {LEFT: '4001', RIGHT: '4002', BACK: '4003'}


def cell(folder, serials=SERIALS, tracker=None, **changes):
    """A cell with a tracker by colour and cameras of these serials."""
    cameras = {name: {'driver': 'opencv', 'source': f'/dev/{name}', 'serial': serial} for name, serial in serials.items()}
    devices = {'arm': ARM, **OTHERS, 'tracker': tracker or {'driver': 'colour'}, 'cameras': cameras}
    return load(folder, **{'devices': devices, 'calibration': 'cal.yaml', **changes})


@pytest.fixture
def calibrated(tmp_path):
    calibration = truth()
    for name, serial in SERIALS.items():
        calibration = calibration.with_part(name, 'serial', serial)
    file.save(tmp_path / 'cal.yaml', calibration)
    return tmp_path


def test_a_calibrated_cell_has_no_problems(calibrated):
    assert list(calibration_problems(cell(calibrated))) == []
    assert list(calibration_problems(cell(calibrated, dict.fromkeys(SERIALS, '')))) == []      # not known: nothing to compare


@pytest.mark.parametrize('serials, line', [
    ({LEFT: '4002', RIGHT: '4001', BACK: '4003'}, f'devices.cameras.{LEFT}: its serial 4002 was calibrated as {RIGHT} in '),
    ({**SERIALS, BACK: '4009'}, f'devices.cameras.{BACK}: its serial is 4009, '),
    ({LEFT: '4001', RIGHT: '4002'}, f'devices.tracker: uses camera {BACK} of '),
    ({LEFT: '4001'}, 'devices.tracker: needs the pictures of 2 cameras and more, devices.cameras has 1'),
])
def test_swapped_changed_and_missing_cameras_are_named_in_one_line(calibrated, serials, line):
    (problem,) = calibration_problems(cell(calibrated, serials))
    assert problem.startswith(line) and '\n' not in problem


def test_a_tracker_by_colour_says_what_it_lacks_but_for_fakes(tmp_path):
    for changes, line in (({'calibration': None}, 'devices.tracker: needs a calibration of the cameras: '),
                          ({}, 'calibration: there is no file ')):
        (problem,) = calibration_problems(cell(tmp_path, **changes))
        assert problem.startswith(line) and 'docs/tracking.md' in problem
        assert list(calibration_problems(cell(tmp_path, **changes), fake=True)) == []
    file.save(tmp_path / 'cal.yaml', truth(cameras=[LEFT]))
    (problem,) = calibration_problems(cell(tmp_path))
    assert 'has 1 calibrated cameras, 2 are needed' in problem


def test_a_fake_tracker_knows_the_cells_cameras_and_the_simulated_colours(tmp_path):
    tracker = {'driver': 'colour', 'shapes': ['a.stl', 'b.stl', 'c.stl'],
               'tracking': {'red': {'hue_deg': [300, 10]}, 'age_s': 1.0}}
    made = cell(tmp_path, {LEFT: '', BACK: ''}, tracker)
    device = fake(tracker, Context(tmp_path, '', made, 'tracker')).device
    assert device['tracking'] == {'age_s': 1.0} and 'shapes' not in device
    assert set(file.load(device['calibration']).poses) == {LEFT, BACK}
