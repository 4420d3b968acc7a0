# SPDX-License-Identifier: Apache-2.0
"""The fakes as a cell's plan starts them: processes before one simulated world, and the entries that lead to them."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chef_control.devices import DRIVERS, driver_of
from chef_control.devices.device import DeviceError
from chef_control.devices.robotiq_2f85 import Robotiq2F85
from chef_control.devices.robotiq_fts300 import RobotiqFTS300
from chef_control.fakes import robotiq_2f85, robotiq_fts300
from chef_control.fakes.plan import Context
from chef_sim.server import WorldServer
from chef_sim.world import World
from chef_task.settings import build
from chef_task.spaces import GRASP_NONE

WAIT_S = 60.0


@pytest.fixture(scope='module')
def world_socket(tmp_path_factory):
    path = str(tmp_path_factory.mktemp('world') / 'world.sock')
    with WorldServer(World(1, 'fast', seed=0), path):
        yield path


@pytest.fixture
def started(tmp_path, world_socket):
    """Starts a fake by its plan and gives its driver's settings."""
    processes = []

    def start(module, cls, entry: dict, name: str = 'device'):
        fake = module.fake(entry, Context(Path(tmp_path), world_socket, SimpleNamespace(devices={'cameras': {name: {}}}), name))
        processes.append(subprocess.Popen([sys.executable, '-m', *fake.process], stdout=subprocess.PIPE, text=True,
                                          env={**os.environ, **fake.environment}))
        assert processes[-1].stdout.readline(), 'it did not get ready'
        return build(cls.Settings, {k: v for k, v in fake.device.items() if k != 'driver'})

    start.processes = processes
    yield start
    for p in processes:
        p.terminate()
        assert p.wait(WAIT_S) == 0
        p.stdout.close()


class Heard:
    """What a device told."""

    def __init__(self):
        self.samples, self.lost, self._news = [], [], threading.Condition()

    def __call__(self, samples):
        with self._news:
            self.samples += samples
            self._news.notify_all()

    def until(self, condition, meanwhile=lambda: None):
        end = time.monotonic() + WAIT_S
        with self._news:
            while not (self.samples and condition(self.samples[-1])):
                assert time.monotonic() < end and not self.lost, (self.samples[-1:], self.lost)
                meanwhile()
                self._news.wait(0.02)


def opened(cls, settings, heard: Heard):
    """Tries for a while, as a driver's node does: the machine may be busy."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return cls(settings, heard, heard.lost.append)
        except DeviceError:
            if time.monotonic() > end:
                raise


def test_every_driver_can_be_imported_and_faked():
    for (role, name), driver in DRIVERS.items():
        assert driver_of(role, name) is driver
        for target in (driver.device, driver.fake):
            module, _, attribute = target.partition(':')
            assert callable(getattr(__import__(module, fromlist=[attribute]), attribute)), target


@pytest.mark.parametrize('driver', ['basler', 'opencv'])
def test_cameras_show_the_world(started, driver, monkeypatch):
    pytest.importorskip('pypylon')
    monkeypatch.setenv('PYLON_CAMEMU', '3')     # of the driver's process, which this one plays
    device = DRIVERS['cameras', driver]
    cls = getattr(importlib.import_module(device.device.partition(':')[0]), device.device.partition(':')[2])
    fake = importlib.import_module(device.fake.partition(':')[0])
    entry = {'driver': driver, 'serial': '1234', 'crop': [1, 2, 3, 4], **({'source': '0'} if driver == 'opencv' else {})}
    settings, heard = started(fake, cls, entry, 'basket_front_left'), Heard()
    camera = opened(cls, settings, heard)
    try:
        # the emulation starts with noise; a rendered picture has large areas of nearly one colour
        heard.until(lambda s: np.abs(np.diff(s['image'].astype(int), axis=1)).mean() < 20)
        assert heard.samples[-1]['image'].shape == (128, 128, 3) and heard.samples[-1]['image'].std() > 5
        started.processes[-1].send_signal(signal.SIGUSR1)       # something covers it, for a while
        heard.until(lambda s: s['image'].mean() < 10)
        heard.until(lambda s: s['image'].mean() > 20)
        started.processes[-1].send_signal(signal.SIGUSR2)       # what it sends is no picture, for a while
        silent = len(heard.samples)
        heard.until(lambda s: camera.spoilt or camera.gaps)
        heard.until(lambda s: len(heard.samples) > silent + 5 and s['image'].std() > 5)
    finally:
        camera.close()


def test_the_gripper_moves_the_worlds_fingers(started):
    settings, heard = started(robotiq_2f85, Robotiq2F85, {'driver': 'robotiq_2f85', 'port': '/dev/ttyUSB0'}), Heard()
    gripper = opened(Robotiq2F85, settings, heard)
    try:
        for velocity, reached in ((1.0, lambda s: s['position'] > 250), (-1.0, lambda s: s['position'] < 5)):
            heard.until(reached, lambda: gripper.send(
                {'command': 'gripper', 'stamp': time.time_ns(), 'velocity': velocity}))
        assert all(s['grasp'] == GRASP_NONE for s in heard.samples)     # nothing was between the fingers
    finally:
        gripper.close()


def test_the_force_sensor_feels_the_tool_of_the_config_and_its_weight_is_taken_off(started):
    entry = {'driver': 'robotiq_fts300', 'port': '/dev/ttyUSB1', 'tool_mass_kg': 2.0, 'tool_com_m': [0.0, 0.01, 0.08],
             'serial': 'F-1', 'tare': False}
    settings, heard = started(robotiq_fts300, RobotiqFTS300, entry), Heard()
    sensor = opened(RobotiqFTS300, settings, heard)
    try:
        heard.until(lambda s: len(heard.samples) > 5)
        force = np.mean([s['force'] for s in heard.samples], axis=0)
        assert force == pytest.approx(robotiq_fts300.BIAS[:3], abs=0.5)     # all that is left
    finally:
        sensor.close()
