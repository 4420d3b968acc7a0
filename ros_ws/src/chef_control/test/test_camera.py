# SPDX-License-Identifier: Apache-2.0
"""What all cameras share, with sources that hang, break off, spoil pictures and come back."""

import threading
import time

import numpy as np
import pytest
from ears import Ears

from chef_control.devices.camera import Camera, CameraSettings, EndOfSource, Picture
from chef_control.devices.device import DeviceError
from chef_task.settings import build

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


class Scripted(Ears, Camera):
    """Each opening plays the next entry of `script`: an exception, or a list of what grabbing gives or does."""

    WAIT_S = 20.0

    def __init__(self, script, **settings):
        self.script, self.opened, self.closed = list(script), 0, 0
        Ears.__init__(self)
        patient = {'timeout_s': 10.0, 'open_s': 10.0, 'retry_s': 0.01, 'retry_max_s': 0.02}
        Camera.__init__(self, CameraSettings(name='eye', **{**patient, **settings}), self.heard, self.gone)

    def open(self):
        self.opened += 1
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(entry, Exception):
            raise entry
        return Grabs(self, list(entry))


class Grabs:
    def __init__(self, camera, steps):
        self.camera, self.steps = camera, steps

    def grab(self, timeout_s):
        step = self.steps.pop(0) if self.steps else 'picture'
        if isinstance(step, Exception):
            raise step
        if isinstance(step, threading.Event):
            step.wait(Scripted.WAIT_S)
        elif step is None:
            return None
        time.sleep(0.005)
        return Picture(IMAGE, None, time.time_ns())

    def close(self):
        self.camera.closed += 1


@pytest.fixture
def camera():
    made = []

    def make(*args, **settings):
        made.append(Scripted(*args, **settings))
        return made[-1]

    yield make
    for c in made:
        c.close()


def test_a_camera_that_vanishes_comes_back_and_the_gap_is_counted(camera, caplog):
    broken = DeviceError('camera eye was unplugged')
    eye = camera([['picture', None, 'picture', broken], DeviceError('not there'), DeviceError('not there'), []])
    eye.until(lambda: len(eye.samples) >= 5)
    assert eye.opened == 4 and eye.closed == 1 and not eye.lost
    told = eye.diagnostics()
    assert told['gaps'] == 1 and told['spoilt_pictures'] == 1
    assert told['gap_s'] == told['longest_gap_s'] > 0.02
    stamps = [s['stamp'] for s in eye.samples]
    assert stamps == sorted(set(stamps)) and stamps[2] - stamps[1] > 0.02e9
    assert [r.message for r in caplog.records if 'unplugged; it is opened anew' in r.message]
    assert [r.message for r in caplog.records if 'is back after' in r.message]


def test_a_camera_that_hangs_is_opened_anew_once_it_lets_go(camera):
    stuck = threading.Event()
    eye = camera([['picture', stuck], []], timeout_s=0.1)
    eye.until(lambda: eye.samples)
    time.sleep(0.3)
    assert eye.opened == 1      # two that have it open would be a fault of its own
    n = len(eye.samples)
    stuck.set()
    eye.until(lambda: eye.opened >= 2 and len(eye.samples) > n)
    assert eye.closed >= 1 and not eye.lost


def test_a_camera_that_stays_away_is_lost_with_its_last_reason(camera):
    eye = camera([['picture', DeviceError('camera eye broke')], DeviceError('camera eye is not there')], gone_s=0.1)
    eye.until(lambda: eye.lost)
    time.sleep(0.05)
    assert eye.lost == ['camera eye is not there; it has been gone for 0.1 s']


def test_the_end_of_a_source_is_lost_at_once(camera):
    eye = camera([['picture', EndOfSource('camera eye has ended')]])
    eye.until(lambda: eye.lost)
    assert eye.lost == ['camera eye has ended'] and eye.opened == 1


def test_what_cannot_be_opened_is_one_line(camera):
    with pytest.raises(DeviceError, match='^camera eye is busy$'):
        camera([DeviceError('camera eye is busy')])
    with pytest.raises(DeviceError, match='^camera eye: RuntimeError: a b$'):
        camera([RuntimeError('a\nb')])
    with pytest.raises(DeviceError, match='gave no picture for 0.1 s'):
        camera([[threading.Event()]], open_s=0.1)
    with pytest.raises(DeviceError, match=r'crop \[4, 0, 3, 2\] reaches beyond its picture of 6 x 4 pixels'):
        camera([[]], crop=(4, 0, 3, 2))


def test_pictures_are_cropped_and_settings_named(camera):
    eye = camera([[]], crop=(1, 2, 3, 2))
    eye.until(lambda: eye.samples)
    assert np.array_equal(eye.samples[0]['image'], IMAGE[2:4, 1:4]) and eye.samples[0]['stream'] == 'eye'
    for values, text in (({'crop': [1, 2, 3]}, 'devices.cameras.eye.crop must be empty or x, y, width, height'),
                         ({'crop': [0, 0, 0, 5]}, 'devices.cameras.eye.crop must be empty'),
                         ({'exposure_us': -5}, 'devices.cameras.eye.exposure_us must be at least')):
        with pytest.raises(ValueError, match=text):
            build(CameraSettings, values, 'devices.cameras.eye')
