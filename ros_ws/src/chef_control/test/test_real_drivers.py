# SPDX-License-Identifier: Apache-2.0
"""The driver nodes with a real cell's config: samples to messages, commands to the device, lost and wrong devices."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
chef_msgs = pytest.importorskip('chef_msgs.msg')

from sensor_msgs.msg import Image, JointState  # noqa: E402
from test_devices import MINE, OTHERS, Lever, config  # noqa: E402
from test_lifecycle import ACTIVATE, CONFIGURE, Bench  # noqa: E402

from chef_control.drivers.actuators import ArmDriver  # noqa: E402
from chef_control.drivers.cameras import CameraDriver  # noqa: E402
from chef_control.node import ConfigError, to_time  # noqa: E402
from chef_msgs.msg import Command, JointVelocityCommand  # noqa: E402
from chef_task.qos import profile  # noqa: E402

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


@pytest.fixture
def bench(request):
    made = []

    def make(*args, **parameters):
        Lever.opened.clear()
        made.append(Bench(*args, **parameters))
        return made[-1]

    yield make
    for b in made:
        b.close()


def test_the_arm_of_a_real_cell_is_observed_and_moved(bench, tmp_path):
    arm = bench(ArmDriver, 'arm', cell_config=str(config(tmp_path)))
    assert not Lever.opened
    arm.change(CONFIGURE)
    (lever,) = Lever.opened
    sample = {'stream': 'joints', 'position': [0.1] * 7, 'velocity': [0.2] * 7, 'effort': [0.3] * 7}

    def heard():
        lever.on_batch([{**sample, 'stamp': time.time_ns()}])
        return arm.joints
    assert list(arm.until(heard)[-1].position) == [0.1] * 7
    assert isinstance(arm.joints[-1], JointState)

    arm.change(ACTIVATE)
    commands = arm.publisher(JointVelocityCommand, 'arm/velocity_command', 'stream')

    def moved():
        m = JointVelocityCommand(mode=Command.MOVE, velocity=[0.1] * 7)
        m.header.stamp = to_time(time.time_ns())
        commands.publish(m)
        return lever.sent
    command = arm.until(moved)[0]
    assert command['command'] == 'arm' and list(command['velocity']) == [0.1] * 7
    # the commands cease: the driver's own watchdog stops the device
    arm.until(lambda: list(lever.sent[-1]['velocity']) == [0.0] * 7)

    lever.on_lost('the cable is out')
    arm.until(lambda: arm.node.work() or arm.node.finished == 1)
    arm.node.stop()
    assert lever.closed


def test_what_is_no_sample_does_not_end_a_driver(bench, tmp_path):
    arm = bench(ArmDriver, 'arm', cell_config=str(config(tmp_path)))
    arm.change(CONFIGURE)
    (lever,) = Lever.opened
    lever.on_batch([{'stream': 'joints', 'stamp': time.time_ns(), 'position': 'far'}, {}, None])
    assert arm.node.health.report().values['bad_samples'] == 3 and arm.node.finished is None


def test_a_camera_of_a_real_cell_is_cropped_to_the_policys_size(bench, tmp_path):
    camera = bench(CameraDriver, 'camera', cell_config=str(config(tmp_path)), camera='basket_back_left')
    images = []
    camera.probe.create_subscription(Image, 'basket_back_left/image', images.append, profile('sensor'))
    picture = np.full((480, 640, 3), (9, 8, 7), np.uint8)

    def heard():
        Lever.opened[0].on_batch([{'stream': 'basket_back_left', 'stamp': time.time_ns(), 'image': picture}])
        return images
    m = camera.until(heard)[0]
    assert (m.height, m.width, m.encoding, bytes(m.data[:3])) == (128, 128, 'rgb8', bytes((9, 8, 7)))


@pytest.mark.parametrize('settings, error', [({'port': 'absent'}, 'there is no absent'), ({}, 'devices.cameras')])
def test_a_camera_that_cannot_be_opened_ends_its_node_with_one_line(tmp_path, settings, error):
    devices = {'arm': {'driver': MINE, 'port': 'p'}, **OTHERS, 'cameras': {'basket_back_left': {'driver': MINE, **settings}}}
    path = config(tmp_path, devices=devices)
    with pytest.raises(ConfigError, match=error) as caught:
        Bench(CameraDriver, 'camera', cell_config=str(path), camera='basket_back_left',
              device_deadline_s=0.0)
    assert '\n' not in str(caught.value)
    rclpy.shutdown()
