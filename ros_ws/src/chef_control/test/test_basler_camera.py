# SPDX-License-Identifier: Apache-2.0
"""Basler cameras against pylon's own emulation of them."""

import time

import numpy as np
import pytest
from ears import Ears

pytest.importorskip('pypylon')

from chef_control.devices.basler_camera import BaslerCamera, Settings  # noqa: E402
from chef_control.devices.device import DeviceError  # noqa: E402
from chef_control.fakes.basler_camera import show  # noqa: E402


@pytest.fixture(autouse=True)
def three_cameras(monkeypatch):
    monkeypatch.setenv('PYLON_CAMEMU', '3')


class Eye(Ears, BaslerCamera):
    """A camera that keeps what it told, and what it has open."""

    def __init__(self, **settings):
        Ears.__init__(self)
        self.tries = 0
        patient = {'timeout_s': 10.0, 'open_s': 20.0, 'retry_s': 0.02, 'retry_max_s': 0.1, 'width': 64, 'height': 48}
        BaslerCamera.__init__(self, Settings(**{**patient, **settings}), self.heard, self.gone)

    def open(self):
        self.tries += 1
        self.source = super().open()
        return self.source

    def value(self, name: str):
        return self.source._camera.GetNodeMap().GetNode(name).GetValue()

    def close(self):
        super().close()
        self.source = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_pictures_come_as_configured():
    with Eye(serial='0815-0001', exposure_us=5000, gain=6, rate_hz=30, pixel_format='BayerRG8', crop=(8, 0, 32, 48)) as eye:
        eye.until(lambda: len(eye.samples) > 3)
        assert eye.samples[-1]['image'].shape == (48, 32, 3) and eye.samples[-1]['image'].dtype == np.uint8
        stamps = [s['stamp'] for s in eye.samples]
        assert stamps == sorted(set(stamps)) and abs(time.time_ns() - stamps[-1]) < 5e9
        assert eye.source._camera.GetDeviceInfo().GetSerialNumber() == '0815-0001'
        assert eye.value('ExposureTime') == 5000 and eye.value('Gain') == pytest.approx(6, abs=0.01)
        assert eye.value('AcquisitionFrameRateAbs') == pytest.approx(30, rel=0.01)
        assert (eye.value('Width'), eye.value('Height')) == (64, 48)


def test_an_emulated_camera_shows_what_it_is_given(tmp_path):
    folder = tmp_path / 'eye'
    folder.mkdir()
    first, second = np.full((48, 64, 3), (10, 200, 30), np.uint8), np.full((48, 64, 3), (90, 20, 250), np.uint8)
    show(folder, first)
    with Eye(serial='0815-0000', emulation_folder=str(folder)) as eye:
        eye.until(lambda: eye.samples)
        assert np.array_equal(eye.samples[0]['image'], first)
        show(folder, second)
        eye.until(lambda: np.array_equal(eye.samples[-1]['image'], second))


def test_a_camera_that_vanishes_comes_back(monkeypatch):
    with Eye(serial='0815-0002') as eye:
        eye.until(lambda: eye.samples)
        monkeypatch.setenv('PYLON_CAMEMU', '0')     # none is found any more
        eye.source._camera.StopGrabbing()
        tries, n = eye.tries, len(eye.samples)
        eye.until(lambda: eye.tries > tries + 1)
        monkeypatch.setenv('PYLON_CAMEMU', '3')
        eye.until(lambda: len(eye.samples) > n + 1)
        assert eye.diagnostics()['gaps'] == 1 and not eye.lost


def test_spoilt_pictures_are_left_out():
    with Eye(serial='0815-0000') as eye:
        eye.until(lambda: eye.samples)
        nodes = eye.source._camera.GetNodeMap()
        nodes.GetNode('ForceFailedBufferCount').SetValue(3)
        nodes.GetNode('ForceFailedBuffer').Execute()
        n = len(eye.samples)
        eye.until(lambda: eye.spoilt >= 1 and len(eye.samples) > n)
        assert not eye.lost and eye.diagnostics()['gaps'] == 0


def refused(**settings) -> str:
    with pytest.raises(DeviceError) as e:
        Eye(**settings)
    assert '\n' not in str(e.value) and '.cpp' not in str(e.value)
    return str(e.value)


def test_what_cannot_be_opened_is_one_line(monkeypatch, tmp_path):
    assert 'choose one by its serial: 0815-0000, 0815-0001, 0815-0002' in refused()
    assert 'Basler 4711) is not there; there are 0815-0000' in refused(serial='4711')
    assert 'does not take width 99999: Value = 99999' in refused(serial='0815-0000', width=99999)
    assert "does not take pixel_format 'Sepia'" in refused(serial='0815-0000', pixel_format='Sepia')
    assert 'does not take gain 999' in refused(serial='0815-0000', gain=999)
    assert 'there is no emulation_folder' in refused(serial='0815-0000', emulation_folder=str(tmp_path / 'none'))
    monkeypatch.setenv('PYLON_CAMEMU', '0')
    assert 'there is no Basler camera; is it plugged in and powered?' in refused(serial='0815-0000')


def test_ticks_of_the_cameras_clock_become_system_time(monkeypatch):
    """Emulated cameras have no clock: the grab result is given one, of 125 MHz as in a GigE camera."""
    with Eye(serial='0815-0000') as eye:
        eye.until(lambda: eye.samples)
        source = eye.source
    source._tick_ns = 8.0

    class Result:
        TimeStamp = 125_000_000 * 7

        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

    class Grabbing:
        def RetrieveResult(self, timeout_ms, handling):
            return Result(type('Real', (), {'IsValid': lambda s: True, 'GrabSucceeded': lambda s: True,
                                            'Release': lambda s: None})())

    class Converter:
        def Convert(self, result):
            return type('Image', (), {'GetArray': lambda s: np.zeros((2, 2, 3), np.uint8)})()

    source._camera, source._converter = Grabbing(), Converter()
    picture = source.grab(1.0)
    assert picture.ticks_ns == 7 * 10**9 and abs(picture.arrival_ns - time.time_ns()) < 5e9
