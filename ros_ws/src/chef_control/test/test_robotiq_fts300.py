# SPDX-License-Identifier: Apache-2.0
"""The FTS-300 against pymodbus' own server and a data stream on a pseudo-terminal."""

import os
import time

import numpy as np
import pytest
from ears import SerialCell
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.devices.device import DeviceError
from chef_control.devices.robotiq_fts300 import FRAME_BYTES, RobotiqFTS300, Settings, StreamParser, crc, frame
from chef_control.fakes.robotiq_fts300 import BIAS, MOUNT, TOOL, FakeForceSensor
from chef_control.fakes.serial_link import SerialLink
from chef_task.geometry import quat_multiply
from chef_task.settings import build


class Cell(SerialCell):
    """A sensor and the device that reads it, with what that device told."""

    DEVICE = RobotiqFTS300

    def __init__(self, **settings):
        fake = FakeForceSensor()
        # the machine that runs this may be busy with anything: patience where patience is not what is tested
        super().__init__(fake, Settings(port=fake.link.host_port,
                                        **{'tare_s': 0.05, 'timeout_s': 1.0, 'lost_s': 10.0, **settings}))

    def more(self, count: int) -> list[dict]:
        """The next samples."""
        n = len(self.samples)
        self.until(lambda: len(self.samples) >= n + count)
        return self.samples[n:n + count]


@pytest.mark.parametrize('mode', ['stream', 'modbus'])
def test_tares_streams_and_stops(mode):
    with Cell(mode=mode, poll_hz=50.0) as cell:
        sensor = cell.open()
        assert sensor.serial == 'FTS-0042' and cell.fake.streaming == (mode == 'stream')
        cell.fake.wrench = lambda: np.asarray(BIAS) + [0.0, 0.0, -5.0, 0.2, 0.0, 0.0]
        cell.until(lambda: cell.samples and cell.samples[-1]['force'][2] < -4.0)
        s = cell.more(3)[-1]
        assert s['force'] == pytest.approx([0.0, 0.0, -5.0], abs=0.3)
        assert s['torque'] == pytest.approx([0.2, 0.0, 0.0], abs=0.01)
        stamps = np.array([s['stamp'] for s in cell.samples])
        assert (np.diff(stamps) > 0).all() and abs(time.time_ns() - stamps[-1]) < 2e9
        sensor.send({'command': 'tare'})    # on request: what it is pressed with now is the new zero
        assert cell.more(2)[-1]['force'] == pytest.approx([0.0] * 3, abs=0.3)
        sensor.close()
        assert not cell.fake.streaming


def test_a_stream_left_on_is_stopped_first():
    with Cell() as cell:
        cell.fake._streaming.set()
        cell.open()
        cell.more(2)


@pytest.mark.parametrize('tool', [{'tool_mass_kg': TOOL.mass_kg, 'tool_com_m': TOOL.com_m, 'mount': MOUNT}])
def test_the_tools_weight_is_taken_off_in_every_orientation(tool):
    with Cell(**tool) as cell:
        tilted = (0.3, 0.8, -0.4, np.sqrt(1 - 0.09 - 0.64 - 0.16))
        orientation = [(0.0, 1.0, 0.0, 0.0)]
        cell.fake.wrench = lambda: TOOL.weight(quat_multiply(np.array(orientation[0]), np.array(MOUNT))) + BIAS
        sensor = cell.open()
        orientation[0] = tilted
        cell.until(lambda: np.linalg.norm(cell.samples[-1]['force']) > 3.0)     # not told yet: weight looks like force
        sensor.orient(tilted)
        s = cell.more(2)[-1]
        assert s['force'] == pytest.approx([0.0] * 3, abs=0.3) and s['torque'] == pytest.approx([0.0] * 3, abs=0.02)


def test_noise_on_the_line_costs_single_frames():
    with Cell() as cell:
        sensor = cell.open()
        count = iter(range(10**6))

        def noisy(data):
            k = next(count) % 4
            return [data, data[:7] + data[8:], b'\x20' + data, bytes([data[0], data[1], data[2] ^ 1]) + data[3:]][k]

        cell.fake.link.on_device_bytes = noisy
        assert all(np.abs(s['force']).max() < 1.0 for s in cell.more(10))
        assert sensor.diagnostics()['bad_bytes'] > 16 and not cell.lost


@pytest.mark.parametrize('mode', ['stream', 'modbus'])
@pytest.mark.parametrize('how,text', [('cut', 'is gone'), ('silent', 'but nothing'), ('garbage', 'no valid reading')])
def test_lost_in_use_is_one_line(mode, how, text):
    with Cell(mode=mode) as cell:
        sensor = cell.open()
        cell.more(2)
        link = cell.fake.link
        cell.impatient()
        if how == 'cut':
            link.cut()
        else:
            link.on_device_bytes = lambda data: b'' if how == 'silent' else os.urandom(len(data))
        cell.until(lambda: cell.lost)
        assert len(cell.lost) == 1 and text in cell.lost[0] and '\n' not in cell.lost[0]
        with pytest.raises(DeviceError):
            sensor.send({'command': 'tare'})


def refused(settings: Settings) -> str:
    start = time.monotonic()
    with pytest.raises(DeviceError) as e:
        RobotiqFTS300(settings, lambda samples: None, lambda text: None)
    assert time.monotonic() - start < 8.0 and '\n' not in str(e.value)
    return str(e.value)


def test_missing_busy_swapped_and_touched_sensors_are_refused_in_one_line(tmp_path):
    assert 'there is no such port' in refused(Settings(port=str(tmp_path / 'ttyUSB7')))
    with SerialLink() as link:
        assert 'does not answer as slave 9' in refused(Settings(port=link.host_port, timeout_s=0.05))
    with Cell(serial='FTS-0043') as cell:
        assert "has the serial number 'FTS-0042', not 'FTS-0043'" in refused(cell.settings)
    with Cell() as cell:
        cell.fake.noise_n = 3.0
        assert 'it cannot be tared: the force varies by' in refused(cell.settings)
        cell.fake.noise_n = 0.0
        cell.open()
        assert 'another program has it' in refused(cell.settings)


def test_settings_that_cannot_be_meant_are_named():
    for values, text in (({'mount': [2, 0, 0, 0]}, 'devices.wrench.mount must be a unit quaternion'),
                         ({'tool_com_m': [0, 0]}, 'devices.wrench.tool_com_m must hold 3 values, not'),
                         ({'mode': 'modbus', 'filter_hz': 15}, 'devices.wrench.filter_hz must be below half')):
        with pytest.raises(ValueError, match=text):
            build(Settings, {'port': '/dev/null', **values}, 'devices.wrench')


wrenches = st.lists(st.integers(-2**15, 2**15 - 1), min_size=6, max_size=6)
SCALE = np.array([100.0] * 3 + [1000.0] * 3)


@settings(deadline=None, max_examples=50)
@given(st.lists(wrenches, max_size=5), st.data())
def test_frames_are_found_however_they_are_cut(values, data):
    stream = b''.join(frame(v / SCALE) for v in map(np.array, values))
    parser, got = StreamParser(), []
    while stream:
        n = data.draw(st.integers(1, len(stream)))
        got += [(w, behind) for w, behind in parser.feed(stream[:n])]
        stream = stream[n:]
    assert [np.rint(w * SCALE).astype(int).tolist() for w, _ in got] == values
    assert parser.bad == 0 and all(behind >= 0 for _, behind in got)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100), wrenches, st.binary(max_size=100), wrenches)
def test_garbage_loses_no_frame_that_is_whole_and_makes_none_up(before, first, between, second):
    a, b = frame(np.array(first) / SCALE), frame(np.array(second) / SCALE)
    parser = StreamParser()
    stream = before + a + between + b
    found = [np.rint(w * SCALE).astype(int).tolist() for w, _ in parser.feed(stream)]
    # A header in the garbage may claim the start of a frame, but only a valid CRC would keep it.
    for want in (first, second):
        assert want in found
    assert parser.bad >= len(stream) - FRAME_BYTES * len(found) - FRAME_BYTES


def test_crc_and_frame_are_those_of_the_manual():
    # FT 300-S manual, 4.4.1: the request for six registers from 180
    assert crc(bytes.fromhex('090300b40006')) == bytes.fromhex('84a6')
    assert frame([1.0, -1.0, 0.0, 0.001, -0.001, 40.0])[:14] == bytes.fromhex('204e 6400 9cff 0000 0100 ffff ff7f')
