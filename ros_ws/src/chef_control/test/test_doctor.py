# SPDX-License-Identifier: Apache-2.0
"""The doctor finds what is wrong with a cell, and says it in the line of the thing that is wrong."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from test_devices import config

from chef_control.devices import DeviceError
from chef_control.doctor import cli
from chef_control.doctor.ear import Ear
from chef_control.doctor.verdict import FAIL, OK, WARN
from chef_control.urdf import joint_range
from chef_task.cell import CellConfig
from chef_task.settings import option
from chef_task.spaces import CAMERAS

HOME = [0.0, -0.5, -0.5, 1.2, 0.4, 1.0, 0.0]
QUATERNION = [0.0, 1.0, 0.0, 0.0]
TEST_CARD = np.arange(64 * 80 * 3).reshape(64, 80, 3).astype(np.uint8)


RATES = {'joints': 20, 'wrench': 20}
ROLES = ('arm', 'gripper', 'wrench', 'tracker')
RANDOM = np.random.default_rng(0)


def sample(name, **changes):
    """What a sound device of a cell at rest sends; a little noise, as a real one has."""
    noise = RANDOM.normal(0, 1e-4)
    sound = {
        'joints': {'position': [q + noise for q in HOME], 'velocity': [0.0] * 7, 'effort': [0.0] * 7},
        'tcp': {'pose': [0.6 + noise, 0, 0.2, *QUATERNION], 'twist': [noise] * 6},
        'gripper': {'position': 3, 'velocity': 0.0, 'grasp': 1},
        'wrench': {'force': [noise, 0, 1.0], 'torque': [0, 0, noise]},
        'objects': {'poses': [[0.6 + noise, 0, 0.1, *QUATERNION]] * 3},
    }.get(name) or {'image': RANDOM.integers(0, 255, (64, 80, 3)).astype(np.uint8)}
    return {'stream': name, **sound, **changes}


class Patient:
    """A device of any role that works, but for its `fault`."""

    @dataclass(frozen=True)
    class Settings:
        name: str = option('', 'role or camera')
        fault: str = option('', 'what is wrong with it')

    def __init__(self, settings, on_batch, on_lost):
        if settings.fault == 'missing':
            raise DeviceError(f'{settings.name} at /dev/x: there is no such port')
        if settings.fault == 'broken':
            raise ZeroDivisionError('in the driver')
        self._s, self._on_batch, self._on_lost = settings, on_batch, on_lost
        self._over = threading.Event()
        self._send()    # one at least, however slow this machine is
        threading.Thread(target=self._run, daemon=True).start()

    def _send(self):
        name = self._s.name
        streams = {'arm': ('joints', 'tcp'), 'tracker': ('objects',)}.get(name, (name,))
        changes = {'image': TEST_CARD} if self._s.fault == 'same' else {}
        self._on_batch([{**sample(s, **changes), 'stamp': time.time_ns()} for s in streams])

    def _run(self):
        if self._s.fault == 'unplugged':
            self._on_lost('the cable is out')
            return
        while not self._over.wait(0.05):
            self._send()

    def close(self):
        self._over.set()


sys.modules.setdefault('patient_of_the_test', sys.modules[__name__])
MINE = 'patient_of_the_test:Patient'


def write(folder, faults=(), **changes):
    """The config of a cell whose devices have these faults, by name."""
    faults = dict(faults)
    parts = {name: {'driver': MINE, 'fault': faults.get(name, '')} for name in (*ROLES, *CAMERAS)}
    tree = {**{role: parts[role] for role in ROLES}, 'cameras': {name: parts[name] for name in CAMERAS}}
    (folder / 'cal.yaml').touch()
    return config(folder, **{'devices': tree, 'rates_hz': RATES, 'calibration': 'cal.yaml', **changes})


def examine(folder, faults=(), **changes):
    """The verdicts on such a cell: (worst level, all texts) by what was looked at."""
    found = {}
    for verdict in cli.examine(write(folder, faults, **changes), folder / 'runs', 0.5, fake=False):
        assert '\n' not in str(verdict)
        level, text = found.get(verdict.what, (OK, ''))
        found[verdict.what] = max(level, verdict.level, key=(OK, WARN, FAIL).index), f'{text}; {verdict.text}'
    return found


def test_everything_has_a_line(tmp_path):
    found = examine(tmp_path)
    assert set(found) == {'config', 'arm description', 'limits', 'disk', 'calibration',
                          *(f'device {name}' for name in (*ROLES, *CAMERAS)),
                          *(f'stream {s}' for s in ('joints', 'tcp', 'gripper', 'wrench', 'objects', *CAMERAS))}
    assert all(level == OK for what, (level, _) in found.items() if what.startswith(('device', 'config', 'limits')))


def test_devices_are_opened_without_the_calibration_that_they_are_measured_for(tmp_path):
    found = examine(tmp_path, calibration='none.yaml')
    assert found['calibration'][0] == FAIL and 'there is no file' in found['calibration'][1]
    assert found['device basket_front_left'][0] == OK


def test_devices_that_are_not_there_or_not_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(Ear, 'FIRST_NS', 0)
    front_left, front_right, back_left = CAMERAS
    found = examine(tmp_path, {'arm': 'broken', 'gripper': 'missing', 'tracker': 'unplugged', front_left: 'same',
                               back_left: 'same'})
    for what, text in (
        ('device arm', 'the driver failed: ZeroDivisionError: in the driver'),
        ('device gripper', 'gripper at /dev/x: there is no such port'),
        ('tracker', 'was lost: the cable is out'),
        ('stream objects', 'no sample came'),
        (f'stream {front_left}', f'shows the very picture of {back_left}'),
    ):
        assert found[what][0] == FAIL and text in found[what][1], found
    assert 'stream gripper' not in found and 'very picture' not in found[f'stream {front_right}'][1]


def hear(folder, stream, make, seconds=2.0, hz=20.0, age_s=0.01, changes=None):
    """The verdict on a stream of which sample k is make(k), on a clock of its own."""
    cell = CellConfig.load(write(folder, **(changes or {})))
    role = {'joints': 'arm', 'tcp': 'arm', 'objects': 'tracker'}.get(stream, stream)
    clock = [10**18]
    ear = Ear(cell, role if role in ROLES else 'cameras', stream, joint_range(cell.urdf, cell.joints), lambda: clock[0])
    clock[0] += Ear.FIRST_NS
    for k in range(int(seconds * hz)):
        clock[0] += int(1e9 / hz)
        ear.on_batch([{'stamp': clock[0] - int(age_s * 1e9), **make(k)}])
    verdicts = [v for v in ear.verdicts() if v.text != 'no sample came']
    (verdict,) = verdicts       # of the device, where it sent what is no sample
    return verdict


@pytest.mark.parametrize('stream', ['joints', 'tcp', 'gripper', 'wrench', 'objects', CAMERAS[0]])
def test_a_sound_stream_is_ok(tmp_path, stream):
    verdict = hear(tmp_path, stream, lambda k: sample(stream))
    assert verdict.level == OK and '20.0 Hz of 20, up to 10 ms old, gaps up to 50 ms' in verdict.text


def test_what_came_while_others_were_opened_does_not_count(tmp_path):
    cell = CellConfig.load(write(tmp_path))
    clock = [10**18]
    ear = Ear(cell, 'wrench', '', joint_range(cell.urdf, cell.joints), lambda: clock[0])
    for k in range(100):        # stands still for 2 s, then is itself
        if k == 60:
            ear.restart()
        clock[0] += 50_000_000
        ear.on_batch([{**(FROZEN['wrench'] if k < 60 else sample('wrench')), 'stamp': clock[0]}])
    (verdict,) = ear.verdicts()
    assert verdict.level == OK, verdict


FROZEN = {s: sample(s) for s in ('wrench', CAMERAS[0])}


@pytest.mark.parametrize('stream, make, how, level, text', [
    ('joints', lambda k: sample('joints', velocity=[0.5] * 7), {}, FAIL, 'moves at 0.50 rad/s though nobody commands it'),
    ('joints', lambda k: sample('joints', position=[9.0] * 7), {}, FAIL, 'limit_violated:joint 0 is at 9.00 rad'),
    ('joints', lambda k: sample('joints', velocity=[float('nan')] * 7), {}, FAIL, 'velocity is not finite'),
    ('wrench', lambda k: sample('wrench', force=[0, 0, 15.0]), {}, WARN, '15.0 N at rest, the limit is 20 N; tare'),
    ('wrench', lambda k: sample('wrench', force=[0, 0, 25.0]), {}, FAIL, '25.0 N at rest'),
    ('wrench', lambda k: FROZEN['wrench'], {}, FAIL, 's (limits.frozen_s allows 0.5)'),
    ('wrench', lambda k: sample('wrench', stamp=10**18), {}, FAIL, '39 of 40 stamps do not increase'),
    ('wrench', lambda k: sample('wrench'), {'age_s': 0.4}, FAIL, 'up to 400 ms old'),
    ('wrench', lambda k: sample('wrench'), {'age_s': -0.4}, FAIL, "ahead of this machine's clock"),
    ('wrench', lambda k: sample('wrench'), {'hz': 14, 'changes': {'rates_hz': {'wrench': 20}}}, FAIL, 'too slow: 14.0 Hz of 20'),
    ('wrench', lambda k: sample('wrench'), {'hz': 18}, WARN, 'slower than rates_hz says'),
    ('wrench', lambda k: sample('wrench'), {'hz': 5}, FAIL, 'gaps up to 200 ms; older than 100 ms (limits.sensor_age_s)'),
    ('wrench', lambda k: {'stream': 'wrench', 'force': 'much'}, {}, FAIL, 'sent what is no sample: ValueError'),
    ('gripper', lambda k: sample('gripper', position=300), {}, FAIL, 'position is 300, not a register'),
    ('objects', lambda k: sample('objects', poses=[[0.6] * 7] * 2), {}, FAIL, 'sent what is no sample: ValueError'),
    (CAMERAS[0], lambda k: sample(CAMERAS[0], image=RANDOM.integers(0, 4, (9, 9, 3)).astype(np.uint8)), {}, WARN,
     '9 x 9, mean brightness '),
    (CAMERAS[0], lambda k: sample(CAMERAS[0], image=np.full((9, 9, 3), 7, np.uint8)), {}, FAIL, 'image is one colour'),
    (CAMERAS[0], lambda k: FROZEN[CAMERAS[0]], {}, FAIL, 'the same content'),
    (CAMERAS[0], lambda k: sample(CAMERAS[0], image=np.zeros((9, 9))), {}, FAIL, 'sent what is no sample: ValueError: an image'),
])
def test_what_is_wrong_with_a_stream_is_said(tmp_path, stream, make, how, level, text):
    verdict = hear(tmp_path, stream, make, **how)
    assert verdict.level == level and text in verdict.text


@pytest.mark.parametrize('changes, what, text', [
    ({'home_rad': [0, 0, 0, 0, 0, 5, 0]}, 'config', 'home_rad: 5 rad is out of the range'),
    ({'home_rad': [0, 90, 0, 0, 0, 5, 0]}, 'config', 'in rad, not in degrees'),
    ({'urdf': 'none.urdf'}, 'config', 'does not exist'),
])
def test_a_config_that_is_wrong_opens_no_device(tmp_path, changes, what, text):
    found = examine(tmp_path, **changes)
    assert found[what][0] == FAIL and text in found[what][1]
    assert not any(key.startswith('device') for key in found)


def test_a_disk_that_cannot_be_written_fails(tmp_path):
    from chef_control.doctor import checks

    (verdict,) = checks.disk(tmp_path / 'cal.yaml' / 'runs') if (tmp_path / 'cal.yaml').write_text('x') else ()
    assert verdict.level == FAIL and 'cannot write below' in verdict.text


def test_the_exit_status_says_whether_the_cell_may_run(tmp_path, capsys):
    (tmp_path / 'cell.yaml').write_text('kind: real\n')
    assert cli.main([str(tmp_path / 'cell.yaml')]) == 1
    out = capsys.readouterr().out
    assert 'urdf is missing' in out and '1 checks: 0 ok, 0 to look at, 1 failed' in out
