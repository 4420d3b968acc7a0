# SPDX-License-Identifier: Apache-2.0
"""The 2F-85 against pymodbus' own server on a pseudo-terminal."""

import os
import time

import pytest
from ears import SerialCell
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.devices.device import DeviceError
from chef_control.devices.robotiq_2f85 import Move, Robotiq2F85, Settings, Status
from chef_control.fakes.robotiq_2f85 import FakeGripper
from chef_control.fakes.serial_link import SerialLink
from chef_task.spaces import GRASP_INWARD, GRASP_NONE, GRASP_OUTWARD

STOP = tuple(Move(False).registers())


class Cell(SerialCell):
    """A gripper and the device that drives it, with what that device told."""

    DEVICE = Robotiq2F85

    def __init__(self, **settings):
        fake = FakeGripper()
        # the machine that runs this may be busy with anything: patience where patience is not what is tested
        super().__init__(fake, Settings(port=fake.link.host_port, rate_hz=50.0,
                                        **{'timeout_s': 1.0, 'lost_s': 10.0, **settings}))

    def drive(self, velocity, condition) -> None:
        """Commands at 50 Hz until the condition holds of the newest sample."""
        end = time.monotonic() + self.WAIT_S
        while not (self.samples and condition(self.samples[-1])):
            assert time.monotonic() < end, self.samples[-1:]
            self.device.send({'command': 'gripper', 'stamp': time.time_ns(), 'velocity': velocity})
            time.sleep(0.02)


@pytest.fixture
def cell():
    with Cell() as c:
        yield c


def test_activates_moves_grasps_and_stops_when_commands_cease(cell):
    gripper = cell.open()
    assert (0, 0, 0) in cell.fake.requests and (0x0100, 0, 0) in cell.fake.requests
    cell.fake.fingers.object_at = 120.0
    cell.drive(1.0, lambda s: s['grasp'] == GRASP_INWARD)
    assert cell.samples[-1]['position'] == 120
    moving = [s for s in cell.samples if 10 < s['position'] < 110]
    assert moving and all(s['grasp'] == GRASP_NONE and s['velocity'] >= 0 for s in moving)
    assert tuple(Move(True, 255, 128, 24).registers()) in cell.fake.requests     # 85 of 20..150 mm/s, 40 of 20..235 N
    moved = sum(b['velocity'] * (b['stamp'] - a['stamp']) * 1e-9 for a, b in zip(cell.samples, cell.samples[1:]))
    assert moved == pytest.approx(cell.samples[-1]['position'] - cell.samples[0]['position'])
    stamps = [s['stamp'] for s in cell.samples]
    assert stamps == sorted(set(stamps))
    # nobody commands any more: the device stops by itself, and what it holds no longer counts as held
    cell.until(lambda: cell.samples[-1]['grasp'] == GRASP_NONE)
    assert cell.fake.requests[-1] == STOP and gripper.diagnostics()['stops_by_watchdog'] >= 1
    cell.drive(-1.0, lambda s: s['position'] == 3)
    assert cell.samples[-1]['grasp'] == GRASP_NONE
    gripper.close()
    assert cell.fake.requests[-1] == STOP
    with pytest.raises(DeviceError, match='is closed'):
        gripper.send({'command': 'gripper', 'stamp': time.time_ns(), 'velocity': 1.0})


def test_an_active_gripper_is_not_activated_again_as_that_moves_it(cell):
    cell.open().close()
    before = len(cell.fake.requests)
    cell.open()
    assert (0, 0, 0) not in cell.fake.requests[before:]


def test_old_commands_are_not_obeyed_and_bad_ones_refused(cell):
    gripper = cell.open()
    before = len(cell.fake.requests)
    gripper.send({'command': 'gripper', 'stamp': time.time_ns() - 200_000_000, 'velocity': 1.0})
    n = len(cell.samples)
    cell.until(lambda: len(cell.samples) > n + 3)
    assert cell.fake.requests[before:] == []
    with pytest.raises(DeviceError, match='must be a finite number, not nan'):
        gripper.send({'command': 'gripper', 'stamp': time.time_ns(), 'velocity': float('nan')})


@pytest.mark.parametrize('change', ['flip', 'drop', 'garbage'])
def test_a_noisy_line_costs_a_repetition_and_no_sample(cell, change):
    gripper = cell.open()
    spoilt = []

    def once(data: bytes) -> bytes:
        if spoilt:
            return data
        spoilt.append(data)
        return {'flip': bytes([*data[:-3], data[-3] ^ 0x10, *data[-2:]]), 'drop': b'', 'garbage': b'\x55' * 9}[change]

    cell.impatient()
    gripper._s = cell.settings
    cell.fake.link.on_device_bytes = once
    n = len(cell.samples)
    cell.until(lambda: spoilt and len(cell.samples) > n + 3)
    assert gripper.diagnostics()['repeated_requests'] >= 1 and not cell.lost


@pytest.mark.parametrize('how,text', [('cut', 'is gone'), ('silent', 'does not answer'), ('slow', 'does not answer'),
                                      ('garbage', 'does not answer'), ('fault', 'overcurrent')])
def test_lost_in_motion_is_one_line_and_later_commands_are_refused(how, text):
    with Cell() as cell:
        gripper = cell.open()
        cell.drive(1.0, lambda s: s['position'] > 10)
        link = cell.fake.link
        cell.impatient()
        if how == 'cut':
            link.cut()
        elif how == 'silent':
            link.on_device_bytes = lambda data: b''
        elif how == 'slow':
            link.delay_s = 0.3
        elif how == 'garbage':
            link.on_device_bytes = lambda data: os.urandom(len(data))
        else:
            cell.fake.fault = 0x0E
        cell.until(lambda: cell.lost)
        assert len(cell.lost) == 1 and text in cell.lost[0] and '\n' not in cell.lost[0]
        assert 'the gripper (Robotiq 2F-85)' in cell.lost[0]
        with pytest.raises(DeviceError, match=text):
            gripper.send({'command': 'gripper', 'stamp': time.time_ns(), 'velocity': 1.0})


def refused(settings: Settings) -> str:
    start = time.monotonic()
    with pytest.raises(DeviceError) as e:
        Robotiq2F85(settings, lambda samples: None, lambda text: None)
    assert time.monotonic() - start < 5.0 and '\n' not in str(e.value)
    return str(e.value)


def test_missing_busy_and_dumb_devices_are_refused_in_one_line(tmp_path):
    assert 'there is no such port' in refused(Settings(port=str(tmp_path / 'ttyUSB7')))
    (tmp_path / 'file').write_text('')
    assert str(tmp_path / 'file') in refused(Settings(port=str(tmp_path / 'file')))
    with SerialLink() as link:      # nobody at its other end
        line = refused(Settings(port=link.host_port, timeout_s=0.05))
        assert link.host_port in line and 'does not answer as slave 9' in line
    with Cell() as cell:
        cell.open()
        assert 'another program has it' in refused(cell.settings)


def test_an_activation_that_fails_says_why():
    with Cell(activate_s=0.3) as cell:
        cell.fake._activated_at = 0.0     # of a gripper whose fault does not go away
        cell.fake._input = lambda: [0x1100, 0x0D00, 0]
        assert 'did not reset within 0.3 s: activation fault' in refused(cell.settings)
    with Cell(activate=False) as cell:
        assert '`activate` is false' in refused(cell.settings)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 0xFFFF), min_size=3, max_size=3), st.integers(0, 255))
def test_every_register_is_a_status(registers, requested):
    status = Status.parse(registers)
    assert 0 <= status.position <= 255 and 0 <= status.fault <= 15 and 0 <= status.current_a <= 2.55
    grasp = status.grasp(requested)
    held = registers[0] >> 8 & 0x08 and registers[1] & 0xFF == requested
    assert grasp == ({1: GRASP_OUTWARD, 2: GRASP_INWARD}.get(registers[0] >> 14, GRASP_NONE) if held else GRASP_NONE)


def test_examples_of_the_manual():
    # 2F-85 & 2F-140 Instruction Manual, 4.8: close at full speed and force; grasp completed; opening completed
    assert Move(True, 255, 255, 255).registers() == [0x0900, 0x00FF, 0xFFFF]
    assert Move(True, 0, 255, 255).registers() == [0x0900, 0x0000, 0xFFFF]
    held = Status.parse([0xB900, 0x00FF, 0xBD00])
    assert held == Status(True, True, 3, 2, 0, 255, 189, 0.0) and held.grasp(255) == GRASP_INWARD
    opened = Status.parse([0xF900, 0x0000, 0x0D00])
    assert opened == Status(True, True, 3, 3, 0, 0, 13, 0.0) and opened.grasp(0) == GRASP_NONE
