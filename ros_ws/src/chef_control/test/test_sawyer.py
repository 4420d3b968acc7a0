# SPDX-License-Identifier: Apache-2.0
"""The Sawyer's driver on a real ROS 1: a master, a stand-in robot that speaks the Sawyer's topics, faults on all sides."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from chef_control import ros1
from chef_control.devices import DeviceError
from chef_control.devices.sawyer import Sawyer, SawyerSettings
from chef_control.fakes import arm_plans, intera_msgs
from chef_control.fakes.arm_plans import missing
from chef_control.fakes.sawyer import FakeSawyer
from chef_control.kinematics import Kinematics
from chef_task.spaces import JOINTS

URDF = Path(__file__).resolve().parents[4] / 'config' / 'robots' / 'sawyer.urdf'
LACKING = missing()
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f'ROS 1 is not here: {LACKING}')
MOVE = [0.05, 0.0, 0.0, 0.0, 0.0, 0.0, -0.1]
# s; the robot of the tests that is told to be patient would go on for 2 s, so that this tells who stopped it even on a
# loaded machine; to the millisecond it is tested on a clock of its own in test_arm_link.py
SOON_S = 1.0
LONG_S = 60.0   # a deadline, which nothing comes near but on a machine with far more to do than it can


@pytest.fixture(scope='module')
def stand_in(tmp_path_factory):
    with FakeSawyer(tmp_path_factory.mktemp('sawyer'), URDF) as robot:
        yield robot


@pytest.fixture
def robot(stand_in):
    """The stand-in as it is after switching on."""
    stand_in.tell(mute=False, patient=False, stopped=False, enabled=False, error=False, estop_button=0, estop_source=0)
    stand_in.motion.clear()
    return stand_in


class Driver:
    """The device, and what it told."""

    def __init__(self, robot, **settings):
        self.samples, self.lost, self.news = {}, [], threading.Condition()
        self.robot = robot
        settings = {'urdf': str(URDF), 'master_uri': robot.uri, 'address': '127.0.0.1', 'start_deadline_s': LONG_S,
                    'python_path': (robot.python_path,), **settings}
        self.device = Sawyer(SawyerSettings(**settings), self._on_batch, self._on_lost)

    def _on_batch(self, samples):
        with self.news:
            for sample in samples:
                self.samples.setdefault(sample['stream'], []).append(sample)
            self.news.notify_all()

    def _on_lost(self, text):
        with self.news:
            self.lost.append(text)
            self.news.notify_all()

    def send(self, velocity, age_s=0.0):
        self.device.send({'command': 'arm', 'stamp': time.time_ns() - int(age_s * 1e9), 'velocity': velocity})

    def drive(self, holds, deadline_s=LONG_S):
        """Commands MOVE until something holds."""
        end = time.monotonic() + deadline_s
        while not holds():
            assert time.monotonic() < end and not self.lost, self.lost
            self.send(MOVE)
            time.sleep(0.02)

    def until(self, holds, deadline_s=LONG_S):
        with self.news:
            assert self.news.wait_for(holds, deadline_s), (self.lost, self.robot.motion)

    def at_rest(self, since_ns):
        """Seconds from a time to the motors' stop."""
        end = time.monotonic() + LONG_S
        while self.robot.motion[-1][1]:
            assert time.monotonic() < end
            time.sleep(0.005)
        return (self.robot.motion[-1][0] - since_ns) * 1e-9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.device.close()


def moving(robot):
    return lambda: bool(robot.motion) and robot.motion[-1][1]


def test_it_enables_follows_and_tells_joints_in_the_cells_order_and_the_tcp(robot):
    kinematics = Kinematics(URDF, JOINTS)
    with Driver(robot) as driver:
        driver.drive(lambda: len(at := driver.samples.get('joints', ())) > 100 and at[-1]['velocity'][0] == MOVE[0]
                     and at[-1]['position'][0] > at[0]['position'][0])
        joints, tcp = driver.samples['joints'], driver.samples['tcp']
        velocity = np.array([s['velocity'] for s in joints])
        assert np.abs(velocity - MOVE).max(axis=1).min() < 1e-9
        moved = np.array(joints[-1]['position']) - joints[0]['position']
        assert moved[0] > 0 > moved[6] and np.abs(moved[1:6]).max() < 1e-6
        stamps = np.array([s['stamp'] for s in joints])
        assert (np.diff(stamps) > 0).all() and abs(time.time_ns() - stamps[-1]) < 2e9
        pose = np.array([s['pose'] for s in tcp])
        # the stand-in's endpoint is the URDF's tcp, of the joints that were told with it
        told = np.array([kinematics.pose(j['position'])[0] for j in joints])
        off = np.linalg.norm(pose[:, None, :3] - told, axis=-1).min(axis=1)
        assert np.median(off) < 1e-6 and off.max() < 5e-3   # where a message of the pair was not taken by the test yet
        assert (np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1) < 1e-9).all() and np.ptp(np.sign(pose[:, 4])) == 0
        twists = np.array([kinematics.jacobian(j['position']) @ j['velocity'] for j in joints])
        off = np.linalg.norm(np.array([s['twist'] for s in tcp])[:, None] - twists, axis=-1).min(axis=1)
        assert np.median(off) < 1e-6 and np.abs(twists).max() > 0.01
    assert driver.at_rest(time.time_ns()) < SOON_S and not driver.lost


def test_another_tool_is_refused_unless_it_is_named(robot):
    offset = (0.0, 0.0, 0.1, 1.0, 0.0, 0.0, 0.0)
    with pytest.raises(DeviceError, match='its endpoint is 100.0 mm and 0.000 rad from the tcp of'):
        Driver(robot, tcp_in_endpoint=offset)
    with Driver(robot, tcp_in_endpoint=offset, tcp_tolerance_m=0.11) as driver:
        driver.drive(lambda: len(driver.samples.get('tcp', ())) > 20)
        tcp, joints = driver.samples['tcp'][-1], driver.samples['joints'][-1]
        position, rotation = Kinematics(URDF, JOINTS).pose(joints['position'])
        np.testing.assert_allclose(tcp['pose'][:3], position + rotation @ offset[:3], atol=2e-3)
    with Driver(robot, tcp='urdf') as driver:
        driver.until(lambda: len(driver.samples.get('tcp', ())) > 2)


def test_without_commands_it_stops_though_the_robot_would_go_on(robot):
    with Driver(robot) as driver:
        robot.tell(patient=True)
        driver.drive(moving(robot))
        last = time.time_ns()
        assert driver.at_rest(last) < SOON_S
        for _ in range(10):
            driver.send(MOVE, age_s=0.2)    # old ones
        driver.until(lambda: len(driver.samples['joints']) > 5)
        assert driver.device.late == 10 and not robot.motion[-1][1] and not driver.lost
        driver.drive(moving(robot))     # fresh ones move it again


def test_a_bridge_that_hangs_is_stopped_by_the_robot_and_given_up(robot):
    with Driver(robot) as driver:
        driver.drive(moving(robot))
        hung = time.time_ns()
        os.kill(driver.device._process.pid, signal.SIGSTOP)
        assert driver.at_rest(hung) < SOON_S
        driver.until(lambda: driver.lost)
        assert 'its ROS 1 process has been silent for 2.' in driver.lost[0]
        driver.device._process.wait(5)      # and is not there to wake up
        with pytest.raises(DeviceError, match='silent'):
            driver.send(MOVE)
    assert len(driver.lost) == 1


def test_a_bridge_that_dies_is_told_in_one_line(robot):
    with Driver(robot) as driver:
        driver.drive(moving(robot))
        killed = time.time_ns()
        driver.device._process.kill()
        assert driver.at_rest(killed) < SOON_S
        driver.until(lambda: driver.lost)
    assert driver.lost == [f'arm sawyer at {robot.uri}: its ROS 1 process has died']


@pytest.mark.parametrize('state, text', [
    ({'stopped': True, 'estop_button': 1, 'estop_source': 1}, 'the robot has stopped: its emergency stop is pressed'),
    ({'enabled': False}, 'the robot has been disabled'),
    ({'mute': True}, 'the robot has not told its joints for 2.0 s'),
])
def test_a_robot_that_stops_says_why_in_one_line(robot, state, text):
    with Driver(robot) as driver:
        robot.tell(patient=True)
        driver.drive(moving(robot))
        before = time.time_ns()
        robot.tell(**state)
        assert driver.at_rest(before) < SOON_S or 'mute' in state   # whose silence is looked at 100 ms later
        driver.until(lambda: driver.lost)
    assert driver.lost == [f'arm sawyer at {robot.uri}: {text}']


@pytest.mark.parametrize('state, settings, text', [
    ({'stopped': True, 'estop_button': 1}, {}, 'the robot cannot move: its emergency stop is pressed'),
    ({'error': True}, {}, 'the robot cannot move: it reports an error'),
    ({}, {'enable': False}, 'the robot is disabled, and the cell does not ask to enable it'),
    ({}, {'joints': ('right_j0', 'x'), 'tcp': 'urdf'}, "has no joint or frame 'x'"),
    ({}, {'python_path': ()}, 'there is no Python package intera_core_msgs'),
    ({}, {'python': '/no/python'}, 'its ROS 1 process cannot be started: /no/python: No such file'),
    ({}, {'urdf': '/no/urdf'}, '/no/urdf: not a URDF'),
    ({'mute': True}, {'start_deadline_s': 0.5}, 'nothing came on /robot/joint_states with the joints right_j0'),
    ({}, {'master_uri': 'http://127.0.0.1:9', 'start_deadline_s': 0.1}, 'no ROS master answers at http://127.0.0.1:9'),
])
def test_what_is_missing_at_the_start_is_said_in_one_line(robot, state, settings, text):
    robot.tell(**state)
    with pytest.raises(DeviceError) as caught:
        Driver(robot, **settings)
    assert text in str(caught.value) and 'arm sawyer' in str(caught.value) and '\n' not in str(caught.value)


def test_a_master_that_dies_ends_it_in_one_line(tmp_path):
    with FakeSawyer(tmp_path, URDF) as robot, Driver(robot) as driver:
        robot.tell(patient=True)
        driver.drive(moving(robot))
        robot.master.kill()
        with driver.news:   # commands go on until it is found
            while not driver.lost:
                driver.news.wait(0.02)
                if not driver.lost:
                    driver.send(MOVE)
        assert f'no ROS master answers at {robot.uri}' in driver.lost[0] and '\n' not in driver.lost[0]
        assert driver.at_rest(time.time_ns()) < SOON_S


def test_the_stand_ins_messages_are_those_of_the_robot(stand_in):
    code = ('import sys; sys.path.insert(0, sys.argv[1]); import intera_core_msgs.msg as m; '
            'print(*(getattr(m, n)._type + " " + getattr(m, n)._md5sum for n in sys.argv[2:]), sep="\\n")')
    answer = subprocess.run(['/usr/bin/python3', '-I', '-c', code, stand_in.python_path, *intera_msgs.MD5],
                            capture_output=True, text=True, timeout=60, env=ros1.environment('http://x'))
    assert answer.stdout.split('\n')[:-1] == [f'intera_core_msgs/{n} {s}' for n, s in intera_msgs.MD5.items()]


def test_the_cells_fake_is_the_simulated_worlds_arm(tmp_path):
    """The plan's words start the stand-in, its entry opens the driver, and what is driven is the world's arm."""
    from chef_control.devices import open_device
    from chef_control.fakes.plan import Context
    from chef_sim.server import WorldServer
    from chef_sim.world import World
    from chef_task.cell import CellConfig

    cell = CellConfig('real', URDF, (0.0,) * 7, devices={})
    world = World(1, 'fast')
    with WorldServer(world, str(tmp_path / 'w')):
        plan = arm_plans.sawyer({'driver': 'sawyer'}, Context(tmp_path, str(tmp_path / 'w'), cell, 'arm'))
        process = subprocess.Popen([sys.executable, '-m', *plan.process])
        try:
            samples = []
            device = open_device(dataclasses.replace(cell, devices={'arm': plan.device}), 'arm', samples.extend, print)
            before = world.data.qpos[world.index.arm_qpos][0]
            end = time.monotonic() + LONG_S
            while world.data.qpos[world.index.arm_qpos][0] < before + 0.01 and time.monotonic() < end:
                device.send({'command': 'arm', 'stamp': time.time_ns(), 'velocity': [0.1] + 6 * [0.0]})
                time.sleep(0.02)
            device.close()
            seen = np.array([s['position'][0] for s in samples if s['stream'] == 'joints'])
            assert before + 0.01 <= world.data.qpos[world.index.arm_qpos][0] and seen[-1] > seen[0]
        finally:
            process.terminate()
            assert process.wait(LONG_S) == 0
