# SPDX-License-Identifier: Apache-2.0
"""Any arm with ros2_control: joint states, kinematics against other solvers, a Panda that follows through the topics."""

from __future__ import annotations

import dataclasses
import gc
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path

import mujoco
import numpy as np
import pytest
import scipy.optimize
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.devices import DeviceError, device_settings, open_device
from chef_control.fakes.arm_body import PhysicalBody
from chef_control.joint_states import JointStates
from chef_control.kinematics import Kinematics
from chef_control.velocity_control import ControllerConfig, VelocityController
from chef_sim.world import HOME, World
from chef_task.cell import CellConfig, Mount
from chef_task.limits import Limits
from chef_task.spaces import CONTROL_PERIOD_NS, JOINTS, LINEAR_SPEED_M_S, WRIST_SPEED_RAD_S

ROOT = Path(__file__).resolve().parents[4]
SAWYER = ROOT / 'config' / 'robots' / 'sawyer.urdf'
PANDA = Path(sys.prefix, 'lib', f'python{sys.version_info[0]}.{sys.version_info[1]}', 'site-packages', 'cmeel.prefix',
             'share', 'example-robot-data', 'robots', 'panda_description', 'urdf', 'panda.urdf')
PERIOD = CONTROL_PERIOD_NS * 1e-9
needs_panda = pytest.mark.skipif(not PANDA.is_file(), reason='example-robot-data is not installed (requirements/assets.txt)')
few = settings(max_examples=30, deadline=None)


def panda_file(folder: Path) -> Path:
    """The Panda's cell as docs/arms.md shows it, with the URDF of the public package."""
    text = re.search(r'```yaml\n(kind: real\n.*?)```', (ROOT / 'docs' / 'arms.md').read_text(), re.DOTALL)[1]
    values = yaml.safe_load(text)
    values['urdf'] = str(PANDA)
    path = folder / 'panda.yaml'
    path.write_text(yaml.safe_dump(values))
    return path


def controller_of(cell: CellConfig, **config) -> tuple[Kinematics, VelocityController]:
    """As the node velocity_controller makes it."""
    kinematics = Kinematics(cell.urdf, cell.joints, cell.pinch)
    return kinematics, VelocityController(kinematics, cell.limits, ControllerConfig(cell.home_rad, **config))


# ---- joint states

NAMES = ('a', 'b', 'c')


@few
@given(st.permutations(('x', *NAMES, 'y')))
def test_joints_are_taken_by_name_in_whatever_order(names):
    value = {n: float(i) for i, n in enumerate('abcxy')}
    position = [value[n] for n in names]
    velocity, effort = [v + 10 for v in position], [v + 20 for v in position]
    sample = JointStates(NAMES, True, 100.0).sample(names, position, velocity, effort, 7)
    assert sample == {'stream': 'joints', 'stamp': 7, 'position': [0.0, 1.0, 2.0], 'velocity': [10.0, 11.0, 12.0],
                      'effort': [20.0, 21.0, 22.0]}


def test_joint_states_of_others_are_left_alone_and_incomplete_ones_named():
    states = JointStates(NAMES, True, 100.0)
    assert states.sample(['finger'], [0.0], [0.0], [0.0], 0) is None
    for arguments, text in ((('ab', [0, 0], [0, 0], [0, 0]), 'joint states of the arm are without c'),
                            (('abc', [0, 0, 0], [], [0, 0, 0]), '0 velocities come with 3 joints'),
                            (('abc', [0, 0, 0], [0, 0, 0], []), '0 efforts come with 3 joints: set effort: false')):
        with pytest.raises(ValueError, match=text):
            states.sample(*arguments, 0)
    assert JointStates(NAMES, False, 100.0).sample('abc', [1, 2, 3], [0, 0, 0], [], 0)['effort'] == [0.0] * 3


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([50, 100, 125, 250, 500]), st.sampled_from([20.0, 100.0]), st.floats(0, 0.3), st.integers(0, 99))
def test_samples_come_at_the_rate_that_was_asked_for_or_the_arms_own(arm_hz, rate_hz, jitter, seed):
    states, noise = JointStates('abc', False, rate_hz), np.random.default_rng(seed).uniform(0, jitter, arm_hz)
    stamps = [10**18 + int((i + noise[i]) * 1e9 / arm_hz) for i in range(arm_hz)]
    taken = sum(states.sample('abc', [0] * 3, [0] * 3, [], s) is not None for s in stamps)
    assert taken == pytest.approx(min(arm_hz, rate_hz), rel=0.1)
    after = [states.sample('abc', [0] * 3, [0] * 3, [], s - 10**10) for s in stamps]     # a clock that jumped back
    assert sum(s is not None for s in after) == pytest.approx(taken, rel=0.1)


# ---- kinematics

def test_kinematics_are_those_of_the_simulated_sawyer():
    world, kinematics = World(1, 'fast'), Kinematics(SAWYER, JOINTS)
    lower, upper = kinematics.joint_limits
    draw = np.random.default_rng(0)
    for _ in range(20):
        q, v = draw.uniform(lower, upper), draw.uniform(-1, 1, 7)
        world.data.qpos[world.index.arm_qpos] = q
        world.data.qvel[world.index.arm_dof] = v
        told = world.sample('tcp')
        ours = kinematics.tcp_sample({'position': q, 'velocity': v, 'stamp': 0})
        assert np.linalg.norm(np.subtract(told['pose'][:3], ours['pose'][:3])) < 1e-6
        assert abs(abs(np.dot(told['pose'][3:], ours['pose'][3:])) - 1) < 1e-9
        np.testing.assert_allclose(ours['twist'], told['twist'], atol=1e-5)
        assert np.linalg.norm(kinematics.pose(q, 'pinch')[0] - world.pinch_position) < 1e-6


@needs_panda
def test_kinematics_of_a_public_urdf_are_those_of_another_library(tmp_path):
    cell = CellConfig.load(panda_file(tmp_path))
    kinematics = Kinematics(cell.urdf, cell.joints, cell.pinch)
    body = PhysicalBody(cell.urdf, cell.joints, cell.home_rad)
    lower, upper = kinematics.joint_limits
    draw, link = np.random.default_rng(0), body.model.body(cell.pinch.link).id
    jacobian = np.zeros((6, body.model.nv))
    for _ in range(20):
        q = draw.uniform(lower, upper)
        body.data.qpos[:] = q
        mujoco.mj_forward(body.model, body.data)
        position, rotation = kinematics.pose(q, 'pinch')
        assert np.linalg.norm(position - body.data.xpos[link]) < 1e-6
        np.testing.assert_allclose(rotation, body.data.xmat[link].reshape(3, 3), atol=1e-6)
        mujoco.mj_jacBody(body.model, body.data, jacobian[:3], jacobian[3:], link)
        np.testing.assert_allclose(kinematics.jacobian(q, 'pinch'), jacobian, atol=1e-6)


def solved_by_scipy(kinematics, controller, action, q) -> np.ndarray:
    """The tool's velocity [6] of the same regularised problem, by another solver."""
    jacobian, goal = kinematics.jacobian(q), controller.tool_velocity(action, q, 'reset')
    rows = np.vstack([jacobian, np.sqrt(ControllerConfig.regularisation) * np.eye(q.size)])
    lower, upper = controller.joint_bounds(q)
    found = scipy.optimize.lsq_linear(rows, np.concatenate([goal, np.zeros(q.size)]), (lower, upper + 1e-12), tol=1e-12)
    return jacobian @ found.x


@pytest.mark.parametrize('arm', ['sawyer', pytest.param('panda', marks=needs_panda)])
def test_joint_velocities_do_what_those_of_another_solver_do(arm, tmp_path):
    if arm == 'panda':
        cell = CellConfig.load(panda_file(tmp_path))
    else:
        cell = CellConfig('simulated', SAWYER, tuple(HOME))
    kinematics, controller = controller_of(cell)
    lower, upper = kinematics.joint_limits
    draw = np.random.default_rng(1)
    for _ in range(40):
        q = np.clip(cell.home_rad + draw.normal(0, 0.3, 7), lower, upper)
        action = draw.uniform(-1, 1, 5)
        ours = kinematics.jacobian(q) @ controller.joint_velocity(action, q, 'reset')
        np.testing.assert_allclose(ours, solved_by_scipy(kinematics, controller, action, q),
                                   atol=2 * ControllerConfig.nullspace_slack)


TOY = '''<robot name="toy"><link name="base"/><link name="arm"/><link name="hand"/><link name="finger"/>
<joint name="j" type="{kind}"><parent link="base"/><child link="arm"/><origin xyz="0 0 0.5"/><axis xyz="0 0 1"/>
<limit lower="-1" upper="1" velocity="1" effort="1"/></joint>
<joint name="mount" type="fixed"><parent link="arm"/><child link="hand"/><origin xyz="0.3 0 0"/></joint>
<joint name="slide" type="prismatic"><parent link="{under}"/><child link="finger"/><axis xyz="1 0 0"/>
<limit lower="0" upper="1" velocity="1" effort="1"/></joint></robot>'''


def toy(folder: Path, kind: str = 'revolute', under: str = 'hand') -> Path:
    path = folder / 'toy.urdf'
    path.write_text(TOY.format(kind=kind, under=under))
    return path


def test_a_pinch_is_where_the_cell_says_and_the_tcp_above_it(tmp_path):
    kinematics = Kinematics(toy(tmp_path), ('j',), Mount('hand', (0.0, 0.0, -0.1, 0.0, 1.0, 0.0, 0.0)))    # facing down
    position, rotation = kinematics.pose([0.5], 'pinch')
    np.testing.assert_allclose(position, [0.3 * np.cos(0.5), 0.3 * np.sin(0.5), 0.4], atol=1e-12)
    np.testing.assert_allclose(rotation[:, 2], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(kinematics.pose([0.5], 'tcp')[0], position + [0, 0, 0.2012], atol=1e-12)
    assert kinematics.jacobian([0.5], 'pinch').shape == (6, 1)     # of the arm alone, not of the finger


@pytest.mark.parametrize('urdf, joints, pinch, text', [
    ({}, ('j',), None, "has no joint or frame 'tcp'"),
    ({}, ('j',), Mount('claw'), "has no joint or frame 'claw'"),
    ({'kind': 'continuous'}, ('j',), Mount('hand'), "joint 'j' turns without end"),
    ({}, ('j',), Mount('finger'), "joint 'slide' moves the tool and is not among the arm's 1"),
])
def test_what_a_urdf_lacks_is_said_in_one_line(tmp_path, urdf, joints, pinch, text):
    with pytest.raises(ValueError) as caught:
        Kinematics(toy(tmp_path, **urdf), joints, pinch)
    assert text in str(caught.value) and '\n' not in str(caught.value)


def test_a_urdf_with_another_gripper_must_not_call_its_frames_tcp_and_pinch(tmp_path):
    path = tmp_path / 'longer.urdf'
    path.write_text(SAWYER.read_text().replace('0.20119999999999982', '0.26'))
    with pytest.raises(ValueError, match='frame pinch is 59 mm and 0.00 rad from where tcp has it'):
        Kinematics(path, JOINTS)


@pytest.mark.parametrize('pinch, text', [
    ('hand', 'pinch must be a mapping of link, and perhaps pose'), ({'pose': [0] * 7}, 'pinch must be a mapping of link'),
    ({'link': 'a', 'pose': [0, 0, 0]}, 'pinch.pose must be x y z, in m, and a unit quaternion'),
    ({'link': 'a', 'pose': [0, 0, 0, 1, 1, 0, 0]}, 'pinch.pose must be x y z, in m, and a unit quaternion'),
])
def test_a_pinch_that_is_none_is_refused(tmp_path, pinch, text):
    path = tmp_path / 'cell.yaml'
    path.write_text(yaml.safe_dump({'kind': 'simulated', 'urdf': str(SAWYER), 'home_rad': [0.0] * 7, 'pinch': pinch}))
    with pytest.raises(ValueError, match=text):
        CellConfig.load(path)


def test_the_wrists_range_counts_from_its_neutral():
    limits = Limits(wrist_neutral_rad=0.3, wrist_range_rad=0.5)
    controller = VelocityController(Kinematics(SAWYER, JOINTS), limits, ControllerConfig(tuple(HOME)))
    turn = [0, 0, 0, 1, 0]
    assert controller.tool_velocity(turn, [*HOME[:6], -0.19])[5] > 0 == controller.tool_velocity(turn, [*HOME[:6], -0.21])[5]
    assert Limits(wrist_range_rad=0.5).is_tighter_than(Limits(wrist_range_rad=0.8, wrist_neutral_rad=0.3))
    assert not Limits(wrist_range_rad=0.5).is_tighter_than(Limits(wrist_range_rad=0.7, wrist_neutral_rad=0.3))


# ---- through the topics

LONG_S = 60.0
SOON_S = 1.0
pytest.importorskip('rclpy')


@pytest.fixture(scope='module')
def cell(tmp_path_factory):
    """The Panda's, on topics of this test alone."""
    if not PANDA.is_file():
        pytest.skip('example-robot-data is not installed (requirements/assets.txt)')
    cell = CellConfig.load(panda_file(tmp_path_factory.mktemp('panda')))
    arm = {**cell.devices['arm'], 'domain_id': -1, 'controller': f'/test_{os.getpid()}/velocity',
           'joint_states': f'/test_{os.getpid()}/joint_states', 'start_deadline_s': LONG_S}
    return dataclasses.replace(cell, devices={**cell.devices, 'arm': arm})


@pytest.fixture
def arm(cell):
    """The stand-in Panda."""
    from chef_control.fakes.ros2_control import FakeArm
    entry = cell.devices['arm']
    with FakeArm(cell.joints, PhysicalBody(cell.urdf, cell.joints, cell.home_rad), '', entry['controller'],
                 entry['joint_states']) as fake:
        yield fake


class Driver:
    """The device, opened as the arm's driver node opens it, and what it told."""

    def __init__(self, cell, arm, **settings):
        self.samples, self.lost, self.news, self.arm = {'joints': [], 'tcp': []}, [], threading.Condition(), arm
        entry = {**cell.devices['arm'], **settings}
        self.cell = dataclasses.replace(cell, devices={**cell.devices, 'arm': entry})
        self.device = open_device(self.cell, 'arm', self._on_batch, self._on_lost)

    def _on_batch(self, samples):
        with self.news:
            for sample in samples:
                self.samples[sample['stream']].append(sample)
            self.news.notify_all()

    def _on_lost(self, text):
        with self.news:
            self.lost.append(text)
            self.news.notify_all()

    def until(self, holds, deadline_s=LONG_S):
        with self.news:
            assert self.news.wait_for(holds, deadline_s), self.lost

    def send(self, velocity):
        self.device.send({'command': 'arm', 'stamp': time.time_ns(), 'velocity': list(velocity)})

    def move(self):
        """Until it moves."""
        end = time.monotonic() + LONG_S
        while not (self.arm.motion and self.arm.motion[-1][1]):
            assert time.monotonic() < end and not self.lost, self.lost
            self.send([0.1] * 7)
            time.sleep(0.02)

    def at_rest(self, since_ns):
        """Seconds from a time to the command to rest."""
        end = time.monotonic() + LONG_S
        while self.arm.motion[-1][1]:
            assert time.monotonic() < end
            time.sleep(0.005)
        return (self.arm.motion[-1][0] - since_ns) * 1e-9

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.device.close()


def test_the_second_arm_follows_5_d_commands_through_the_topics(cell, arm):
    kinematics, controller = controller_of(cell)
    with Driver(cell, arm) as driver:
        driver.until(lambda: driver.samples['tcp'])
        for axis, value in ((0, 1.0), (1, -1.0), (2, -1.0), (3, 1.0)):
            action = np.zeros(5)
            action[axis] = value
            start, ticks = driver.samples['joints'][-1], 0
            asked = np.zeros(6)
            while ticks < 10:
                newest = driver.samples['joints'][-1]
                velocity = controller.joint_velocity(action, newest['position'])
                driver.send(velocity)
                before = newest['stamp']
                driver.until(lambda: driver.lost or driver.samples['joints'][-1]['stamp'] - before >= CONTROL_PERIOD_NS)
                after = driver.samples['joints'][-1]
                asked += kinematics.jacobian(newest['position'], 'pinch') @ velocity * (after['stamp'] - before) * 1e-9
                ticks += 1
            driver.send([0.0] * 7)
            driver.until(lambda: driver.lost or np.abs(driver.samples['joints'][-1]['velocity']).max() < 1e-3)
            end = driver.samples['joints'][-1]
            (p, r), (p1, r1) = (kinematics.pose(s['position'], 'pinch') for s in (start, end))
            moved, turned = p1 - p, np.arctan2(*(r1 @ r.T)[1::-1, 0])
            tilt = np.arccos(np.clip(-r1[2, 2], -1, 1))
            assert tilt < 0.01, (axis, tilt)
            if axis < 3:
                share = moved[axis] / asked[axis]
                assert value * asked[axis] > 0.8 * LINEAR_SPEED_M_S * 10 * PERIOD and 0.8 < share < 1.25, (axis, share)
                assert np.abs(np.delete(moved, axis)).max() < 0.01 and abs(turned) < 0.02
            else:
                assert turned > 0.8 * WRIST_SPEED_RAD_S * 10 * PERIOD and np.linalg.norm(moved) < 0.02
        tcp, joints = driver.samples['tcp'][-1], driver.samples['joints'][-1]
        np.testing.assert_allclose(tcp['pose'][:3], kinematics.pose(joints['position'])[0], atol=1e-9)
        assert not driver.lost


def test_it_stops_whoever_is_lost(cell, arm):
    """The controller itself would go on for ever."""
    with Driver(cell, arm) as driver:
        driver.move()
        assert driver.at_rest(time.time_ns()) < SOON_S      # no more commands
        driver.move()
        killed = time.time_ns()
        driver.device._process.kill()                       # the process that commands
        assert driver.at_rest(killed) < SOON_S
        driver.until(lambda: driver.lost)
        assert driver.lost == [f'arm {cell.devices["arm"]["controller"]}: its process has died']
    with Driver(cell, arm) as driver:
        driver.move()
        driver.device._lose = driver.lost.append        # so that it neither ends the process nor stops the arm itself
        gone = time.time_ns()
        driver.device._link._sock.shutdown(socket.SHUT_RDWR)     # as when the driver's process ends
        assert driver.at_rest(gone) < SOON_S
        assert driver.device._process.wait(LONG_S) == 1


def test_an_arm_that_falls_silent_and_a_controller_that_is_taken_down_are_told(cell, arm):
    with Driver(cell, arm) as driver:
        driver.move()
        arm.mute = True
        driver.until(lambda: driver.lost)
        assert 'the robot has not told its joints for 2.0 s' in driver.lost[0] and driver.at_rest(time.time_ns()) < SOON_S
    arm.mute = False
    with Driver(cell, arm) as driver:
        arm.unload()
        driver.until(lambda: driver.lost)
        assert 'its controller no longer listens on /test_' in driver.lost[0]


def test_a_stand_in_that_is_closed_listens_no_more(cell):
    """Not only once it is garbage: the next one of the same topics would not be missed when its controller is taken down."""
    import rclpy
    from std_msgs.msg import Float64MultiArray

    from chef_control.fakes.ros2_control import FakeArm
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('commander', context=context)
    publisher = node.create_publisher(Float64MultiArray, f'/closed_{os.getpid()}/commands', 1)

    def until(count):
        end = time.monotonic() + LONG_S
        while publisher.get_subscription_count() != count:
            assert time.monotonic() < end
            time.sleep(0.01)
    gc.disable()
    try:
        with FakeArm(cell.joints, PhysicalBody(cell.urdf, cell.joints, cell.home_rad), '', f'/closed_{os.getpid()}',
                     f'/closed_{os.getpid()}/joint_states'):
            until(1)
        until(0)
    finally:
        gc.enable()
        node.destroy_node()
        context.try_shutdown()


def test_what_is_missing_at_the_start_is_said_in_one_line(cell, arm):
    arm.effortless = True
    with Driver(cell, arm, effort=False) as driver:
        driver.until(lambda: driver.samples['joints'])
        assert driver.samples['joints'][0]['effort'] == [0.0] * 7
    nobody = {'controller': '/no', 'effort': False, 'start_deadline_s': 0.3}
    for settings, text in ((nobody, 'no controller listens on /no/commands within'),
                           ({}, '/joint_states: 0 efforts come with 8 joints: set effort: false')):
        with pytest.raises(DeviceError) as caught:
            Driver(cell, arm, **settings)
        assert text in str(caught.value) and '\n' not in str(caught.value)
    with pytest.raises(ValueError, match='devices.arm.stamps must be one of arrival, message'):
        device_settings(dataclasses.replace(cell, devices={'arm': {'driver': 'ros2_control', 'stamps': 'x'}}), 'arm')
