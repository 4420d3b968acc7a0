# SPDX-License-Identifier: Apache-2.0
"""OpenCV cameras against a real stream over HTTP and real files."""

import threading
import time

import cv2
import numpy as np
import pytest
from ears import Ears

from chef_control.devices.device import DeviceError
from chef_control.devices.opencv_camera import OpenCVCamera, Settings, usb_serial
from chef_control.fakes.opencv_camera import JpegStream

RED, GREEN = (200, 30, 30), (30, 200, 30)


def picture(colour) -> np.ndarray:
    return np.full((48, 64, 3), colour, np.uint8)


class Eye(Ears):
    """A camera and what it told."""

    def __init__(self, **settings):
        super().__init__()
        patient = {'timeout_s': 10.0, 'open_s': 20.0, 'retry_s': 0.05}
        self.camera = OpenCVCamera(Settings(**{**patient, **settings}), self.heard, self.gone)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.camera.close()


def colour(sample) -> np.ndarray:
    return sample['image'].reshape(-1, 3).mean(axis=0)


class Player(threading.Thread):
    """Shows a colour all the time: a decoder holds the last pictures back until newer ones come."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.colour, self.end = stream, RED, threading.Event()
        self.start()

    def run(self):
        while not self.end.wait(0.02):
            self.stream.show(picture(self.colour))


def test_a_network_camera_is_seen_and_comes_back():
    stream = JpegStream()
    player = Player(stream)
    port = int(stream.url.split(':')[2].split('/')[0])
    with Eye(source=stream.url) as eye:
        eye.until(lambda: eye.samples)
        assert colour(eye.samples[-1]) == pytest.approx(RED, abs=4)     # RGB, whatever OpenCV has
        assert abs(time.time_ns() - eye.samples[-1]['stamp']) < 5e9
        player.end.set()
        player.join()
        stream.close()      # gone: the connection is closed, and a new one refused
        n = len(eye.samples)
        stream = JpegStream(port)
        player = Player(stream)
        player.colour = GREEN
        eye.until(lambda: len(eye.samples) > n + 2)
        assert colour(eye.samples[-1]) == pytest.approx(GREEN, abs=4)
        assert eye.camera.diagnostics()['gaps'] == 1 and not eye.lost
    player.end.set()
    player.join()
    stream.close()


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    path = str(tmp_path_factory.mktemp('film') / 'film.avi')
    out = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 20, (64, 48))
    for k in range(5):
        out.write(cv2.cvtColor(picture((50 * k, 20, 20)), cv2.COLOR_RGB2BGR))
    out.release()
    return path


def test_a_file_is_played_at_its_rate_to_its_end(film):
    start = time.monotonic()
    with Eye(source=film, rate_hz=50) as eye:
        eye.until(lambda: eye.lost)
        assert time.monotonic() - start > 4 * 0.02
        assert [round(colour(s)[0] / 50) for s in eye.samples] == [0, 1, 2, 3, 4]
        stamps = np.array([s['stamp'] for s in eye.samples])
        assert (np.diff(stamps) > 0).all()
        assert eye.lost == [f'camera camera at {film} has ended']


def test_a_file_can_be_played_for_ever(film):
    with Eye(source=film, rate_hz=200, loop=True) as eye:
        eye.until(lambda: len(eye.samples) > 12)
        assert not eye.lost


def refused(**settings) -> str:
    with pytest.raises(DeviceError) as e:
        Eye(**settings)
    assert '\n' not in str(e.value)
    return str(e.value)


def test_what_cannot_be_opened_is_one_line(tmp_path):
    assert 'there is no such device; is it plugged in?' in refused(source='/dev/v4l/by-id/none')
    assert 'there is no such device' in refused(source='77')
    assert 'there is no such file' in refused(source=str(tmp_path / 'none.mp4'))
    (tmp_path / 'text.mp4').write_text('no film')
    assert 'is it a video?' in refused(source=str(tmp_path / 'text.mp4'))
    assert 'cannot be opened; another program may have it' in refused(source='/dev/null')
    line = refused(source='rtsp://me:secret@127.0.0.1:9/x', open_s=5)
    assert 'does not answer' in line and 'secret' not in line


def test_a_usb_cameras_serial_number_is_found(tmp_path):
    usb = tmp_path / 'devices' / 'usb1' / '1-1'
    (usb / '1-1:1.0').mkdir(parents=True)
    (usb / 'serial').write_text('A1B2\n')
    (tmp_path / 'video3').mkdir()
    (tmp_path / 'video3' / 'device').symlink_to(usb / '1-1:1.0')
    assert usb_serial('/dev/video3', tmp_path) == 'A1B2' and usb_serial('/dev/video4', tmp_path) == ''
    assert "has the serial number '', not 'A1B2': are two cameras swapped?" in refused(source='/dev/null', serial='A1B2')
