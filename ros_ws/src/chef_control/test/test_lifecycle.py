# SPDX-License-Identifier: Apache-2.0
"""The real safety gate and arm driver through their lifecycles, asked from outside by the standard services."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from ros_domain import domain

rclpy = pytest.importorskip('rclpy')
chef_msgs = pytest.importorskip('chef_msgs.msg')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import WrenchStamped  # noqa: E402
from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from chef_control.drivers.actuators import ArmDriver  # noqa: E402
from chef_control.executor import LeanExecutor  # noqa: E402
from chef_control.node import to_time  # noqa: E402
from chef_control.nodes.cell_manager import CellManagerNode  # noqa: E402
from chef_control.nodes.safety_gate import SafetyGateNode  # noqa: E402
from chef_msgs.msg import Command, JointVelocityCommand, SafetyState  # noqa: E402
from chef_task.qos import profile  # noqa: E402
from chef_task.spaces import JOINTS  # noqa: E402

DOMAIN = domain(0)
CELL = Path(__file__).resolve().parents[4] / 'config' / 'cells' / 'sim.yaml'
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP,
                                            Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE)


class Bench:
    """One node of ours, and a probe that talks to it."""

    def __init__(self, make, name, **parameters):
        values = {'cell_config': str(CELL), **parameters}
        arguments = ['--ros-args', '-r', '__ns:=/cell_1'] + [a for k, v in values.items() for a in ('-p', f'{k}:={v}')]
        rclpy.init(args=arguments, domain_id=DOMAIN)
        self.node = make(name)
        self.executor = LeanExecutor(self.node)
        self.probe = rclpy.create_node('probe', namespace='/cell_1', use_global_arguments=False)
        self.probing = rclpy.executors.SingleThreadedExecutor()
        self.probing.add_node(self.probe)
        self.name, self.clients = name, {}
        self.states, self.commands, self.diagnostics, self.joints, self.silences = [], [], [], [], []
        for kind, topic, heard, qos in (
                (SafetyState, 'safety/state', self.states, 'state'),
                (JointVelocityCommand, 'arm/velocity_command', self.commands, 'stream'),
                (DiagnosticArray, '/diagnostics', self.diagnostics, 'stream'),
                (String, 'safety/silence', self.silences, 'stream'),
                (JointState, 'joint_states', self.joints, 'sensor')):
            if not (make is ArmDriver and topic.startswith('arm')):
                self.probe.create_subscription(kind, topic, heard.append, profile(qos))

    def publisher(self, kind, topic, qos):
        return self.probe.create_publisher(kind, topic, profile(qos))

    def spin(self):
        self.executor.spin_once(timeout_sec=0.002)
        self.probing.spin_once(timeout_sec=0.0)

    def until(self, condition, deadline_s=10.0):
        end = time.monotonic() + deadline_s
        while not (found := condition()):
            assert time.monotonic() < end, (self.states[-1:], self.commands[-1:])
            self.spin()
        return found

    def ask(self, kind, service, request=None):
        if service not in self.clients:
            self.clients[service] = self.probe.create_client(kind, service)
        client = self.clients[service]
        self.until(client.service_is_ready)
        while True:     # an answer may be lost while the two are getting to know each other
            future = client.call_async(request or kind.Request())
            end = time.monotonic() + 1.0
            while not future.done() and time.monotonic() < end:
                self.spin()
            if future.done():
                return future.result()

    @property
    def state(self):
        return self.ask(GetState, f'{self.name}/get_state').current_state.label

    def change(self, *transitions):
        for transition in transitions:
            assert self.ask(ChangeState, f'{self.name}/change_state', ChangeState.Request(
                transition=Transition(id=transition))).success, transition

    def close(self):
        self.node.stop()
        self.probe.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown()


class GateBench(Bench):
    """A gate whose sensors are fed at every turn."""

    def __init__(self):
        super().__init__(SafetyGateNode, 'safety')
        self.wrench = self.publisher(WrenchStamped, 'wrench', 'sensor_out')
        self.joint_states = self.publisher(JointState, 'joint_states', 'sensor_out')
        self.desired = self.publisher(JointVelocityCommand, 'joint_velocity_desired', 'stream')
        self.force, self.moving = 1.0, False
        self.age_ns, self._sent = 0, 0.0

    def spin(self):
        super().spin()
        if time.monotonic() - self._sent < 0.01:
            return
        self._sent = time.monotonic()
        now = time.time_ns()
        wrench = WrenchStamped()
        wrench.header.stamp, wrench.wrench.force.z = to_time(now), self.force
        self.wrench.publish(wrench)
        joints = JointState(name=list(JOINTS), position=[0.0] * 7, velocity=[0.0] * 7, effort=[0.0] * 7)
        joints.header.stamp = to_time(now)
        self.joint_states.publish(joints)
        if self.moving:
            m = JointVelocityCommand(mode=Command.MOVE, velocity=[0.1] * 7)
            m.header.stamp = to_time(now - self.age_ns)
            self.desired.publish(m)

    def for_a_while(self, seconds=0.3):
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def arm_moves(self):
        return bool(self.commands) and any(self.commands[-1].velocity)

    def told(self, reason):
        return self.until(lambda: self.states and self.states[-1].reason.startswith(reason) and self.states[-1])

    def up(self):
        self.change(CONFIGURE, ACTIVATE)
        self.until(lambda: self.states and not self.states[-1].stopped)
        self.moving = True
        self.until(self.arm_moves)


@pytest.fixture
def gate():
    bench = GateBench()
    yield bench
    bench.close()


def test_the_gate_passes_nothing_unless_it_is_active(gate):
    gate.moving = True
    assert gate.state == 'unconfigured'
    refused = gate.ask(ChangeState, 'safety/change_state', ChangeState.Request(transition=Transition(id=ACTIVATE)))
    assert not refused.success and gate.state == 'unconfigured'
    gate.change(CONFIGURE)
    assert gate.told('inactive').stopped
    gate.for_a_while()
    assert gate.state == 'inactive' and gate.commands == []
    gate.change(ACTIVATE)
    gate.until(gate.arm_moves)
    gate.change(DEACTIVATE)
    gate.told('inactive')
    gate.for_a_while()
    assert gate.commands[-1].mode == Command.HOLD and not any(gate.commands[-1].velocity)
    count = len(gate.commands)
    gate.for_a_while()
    assert len(gate.commands) == count


def test_the_end_of_the_process_is_a_stop(gate):
    gate.up()
    while not gate.node.stop():
        pass
    gate.until(lambda: gate.commands[-1].mode == Command.HOLD)
    assert not gate.node.active and not gate.arm_moves()


def test_an_operators_stop_outlives_the_reset_and_a_new_configuration(gate):
    gate.up()
    assert gate.ask(Trigger, 'safety/stop').success
    assert gate.told('operator_stop').stopped
    gate.for_a_while(0.6)
    assert not gate.arm_moves()
    assert gate.ask(Trigger, 'safety/rearm').message == 'operator_stop'
    gate.change(DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE)
    gate.told('operator_stop')
    gate.for_a_while(0.6)
    assert not gate.arm_moves()
    assert gate.ask(Trigger, 'safety/clear').success
    gate.until(gate.arm_moves)


def test_the_reset_may_rearm_what_the_force_tripped(gate):
    gate.up()
    gate.force = 25.0
    gate.told('force_limit')
    gate.moving, gate.force = False, 1.0
    assert 'only just' in gate.ask(Trigger, 'safety/rearm').message
    gate.for_a_while(0.6)
    assert gate.ask(Trigger, 'safety/rearm').success
    assert not gate.told('').stopped


@pytest.mark.parametrize('age_ms', [150, -150])
def test_a_command_that_was_under_way_for_too_long_stops_the_arm(gate, age_ms):
    gate.up()
    gate.age_ns = age_ms * 1_000_000
    gate.told(f'stale_command:stamped {str(age_ms)[:2]}')
    gate.for_a_while(0.1)
    assert not gate.arm_moves()


def test_limits_are_tightened_while_it_runs_and_never_loosened(gate):
    gate.up()

    def tighten(**values):
        request = SetParameters.Request(parameters=[Parameter(k, value=v).to_parameter_msg() for k, v in values.items()])
        return gate.ask(SetParameters, 'safety/set_parameters', request).results[0]

    assert tighten(force_limit_n=10.0).successful and tighten(speed_scale=0.05).successful
    gate.until(lambda: gate.states[-1].force_limit_n == 10.0 and gate.states[-1].speed_scale == np.float32(0.05))
    gate.until(lambda: 0 < gate.commands[-1].velocity[0] < 0.07)
    for looser in ({'force_limit_n': 15.0}, {'speed_scale': 0.5}, {'force_limit_n': 0.0}):
        result = tighten(**looser)
        assert not result.successful and 'only be' in result.reason
    gate.force = 11.0
    gate.told('force_limit:11.0 N')


def test_diagnostics_tell_of_rates_and_of_the_stop(gate):
    gate.up()
    gate.ask(Trigger, 'safety/stop')
    gate.told('operator_stop')

    def found():
        return next((s for m in gate.diagnostics for s in m.status if 'operator_stop' in s.message), None)

    status = gate.until(found)
    values = {v.key: v.value for v in status.values}
    assert (status.name, status.hardware_id, status.level) == ('cell_1/safety', 'cell_1', b'\x01')
    assert values['state'] == 'active' and float(values['force_limit_n']) == 20.0
    gate.diagnostics.clear()
    status = gate.until(found)
    assert float({v.key: v.value for v in status.values}['wrench_hz']) > 1


@pytest.fixture(scope='module')
def world():
    pytest.importorskip('mujoco')
    from chef_sim.world import World

    return World(1, 'fast', seed=0)


def test_the_arm_driver_always_observes_and_moves_only_while_active(world, tmp_path):
    from chef_sim.server import WorldServer

    path = str(tmp_path / 'world.sock')

    def applied():
        return bool(np.any(world.data.ctrl[:7]))

    with WorldServer(world, path):
        bench = Bench(ArmDriver, 'arm', world_socket=path)
        try:
            send = bench.publisher(JointVelocityCommand, 'arm/velocity_command', 'stream')

            def command(age_ns=0):
                m = JointVelocityCommand(mode=Command.MOVE, velocity=[0.05] * 7)
                m.header.stamp = to_time(time.time_ns() - age_ns)
                send.publish(m)

            def pushed_for(seconds, **kwargs):
                seen, end = False, time.monotonic() + seconds
                while time.monotonic() < end:
                    command(**kwargs)
                    bench.spin()
                    seen = seen or applied()
                    time.sleep(0.005)
                return seen

            bench.change(CONFIGURE)
            bench.until(lambda: len(bench.joints) > 5 and send.get_subscription_count())
            assert not pushed_for(0.3)
            bench.change(ACTIVATE)
            bench.until(lambda: command() or applied())
            bench.change(DEACTIVATE)
            bench.until(lambda: not applied(), deadline_s=1.0)
            assert not pushed_for(0.3)
            bench.change(ACTIVATE)
            bench.until(lambda: not applied(), deadline_s=1.0)
            assert not pushed_for(0.3, age_ns=150_000_000)
            bench.until(lambda: command() or applied())
            bench.silences.clear()
            bench.until(lambda: bench.silences and not applied())   # a safety gate ends the episode
            assert [m.data for m in bench.silences] == ['arm']
            heard = len(bench.joints)
            bench.change(DEACTIVATE, CLEANUP, CONFIGURE)
            bench.until(lambda: len(bench.joints) > heard + 5)
        finally:
            bench.close()


def test_what_cannot_be_configured_says_why_and_stays_as_it_was(tmp_path, capfd):
    bad = tmp_path / 'cell.yaml'
    bad.write_text(CELL.read_text().replace('../robots', str(CELL.parents[1] / 'robots')).replace('20.0', '-1'))
    bench = Bench(SafetyGateNode, 'safety', cell_config=str(bad))
    try:
        for _ in range(2):
            assert not bench.ask(ChangeState, 'safety/change_state', ChangeState.Request(
                transition=Transition(id=CONFIGURE))).success
        assert bench.state == 'unconfigured'
    finally:
        bench.close()
    err = ''.join(capfd.readouterr())
    assert 'force_n must be a positive number' in err and 'Traceback' not in err


def test_the_manager_ends_the_graph_when_a_node_refuses(capfd):
    bench = Bench(CellManagerNode, 'manager', managed='gripper')

    def refuse(request, response):
        response.success = False
        return response

    def state(request, response):
        response.current_state = State(id=State.PRIMARY_STATE_UNCONFIGURED, label='unconfigured')
        return response
    try:
        bench.probe.create_service(GetState, 'gripper/get_state', state)
        bench.probe.create_service(ChangeState, 'gripper/change_state', refuse)
        bench.until(lambda: bench.node.finished == 1)
    finally:
        bench.close()
    assert 'the cell does not come up: gripper refused to configure, see its log' in ''.join(capfd.readouterr())
