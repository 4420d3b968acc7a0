# SPDX-License-Identifier: Apache-2.0
"""Executable `safety_gate`: passes or stops what the controller wants."""

from __future__ import annotations

import signal
import time

from std_srvs.srv import Trigger

from chef_control.node import CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE, CellNode, run, to_time
from chef_control.safety import HOLD, JointCommand, SafetyGate
from chef_control.sensors import LazySample, subscribe
from chef_msgs.msg import JointVelocityCommand, SafetyState
from chef_task.cell import CellConfig
from chef_task.messages import stamp_ns
from chef_task.qos import profile
from chef_task.records import Reason
from chef_task.spaces import JOINTS


class SafetyGateNode(CellNode):
    """Shell over SafetyGate; its own timer looks for silence.

    SIGUSR1 stops the arm: whoever started the nodes sends it when one of them dies.
    """

    PARAMS = (CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE)
    CHECK_PERIOD_S = 0.01
    HEARTBEAT_S = 0.1
    STOP_HOLDS_S = 0.5      # a stop cannot be cleared sooner: a belated request must not undo it

    def __init__(self, name: str):
        super().__init__(name)
        cell = CellConfig.load(self.params['cell_config'])
        deadline = self.params['lockstep_deadline_s'] if self.lockstep else 0.0
        self._gate = SafetyGate(cell.limits, deadline)
        self._node_lost = False
        signal.signal(signal.SIGUSR1, self._on_node_lost)
        self._told = ''
        self._told_at = self._stopped_at = 0.0
        self._stamp = 0
        self._arm = self.create_publisher(JointVelocityCommand, 'arm/velocity_command', profile('stream'))
        self._gripper = self.create_publisher(JointVelocityCommand, 'gripper/velocity_command',
                                              profile('stream'))
        self._state = self.create_publisher(SafetyState, 'safety/state', profile('state'))
        made = subscribe(self, ('wrench', 'joints'), self.lockstep, self._on_sample)
        self.quiet.append(made['joints'])   # the wrench, as frequent, wakes the gate for both
        self.create_subscription(JointVelocityCommand, 'joint_velocity_desired', self._on_desired,
                                 profile('stream'))
        self.create_service(Trigger, 'safety/clear', self._on_clear)
        self.every(self.CHECK_PERIOD_S, self._check)

    def _on_sample(self, stream: str, stamp: int, sample: LazySample) -> None:
        now = time.monotonic_ns()
        try:
            if stream == 'wrench':
                self._stamp = stamp
                self._gate.on_wrench(sample['force'], now)
            else:
                self._gate.on_joints(sample['position'], sample['velocity'], now)
        except ValueError as e:
            self._gate.trip(f'{Reason.BAD_SENSOR.value}:{e}')
        self._tell()

    def _on_desired(self, m: JointVelocityCommand) -> None:
        self._heed_loss()
        command = JointCommand(stamp_ns(m.header.stamp), m.mode, m.velocity, m.gripper_velocity)
        self._publish(self._gate.filter(command, time.monotonic_ns()))
        self._tell()

    def _on_node_lost(self, *_) -> None:
        self._node_lost = True      # a signal handler does no more; the next look is 10 ms away at most

    def _heed_loss(self) -> None:
        if self._node_lost:
            self._node_lost = False
            self._gate.trip(Reason.NODE_LOST.value)

    def _check(self) -> None:
        self._heed_loss()
        self._gate.check(time.monotonic_ns())
        self._tell()

    def _publish(self, c: JointCommand) -> None:
        m = JointVelocityCommand(mode=c.mode, velocity=list(c.velocity), gripper_velocity=float(c.gripper))
        m.header.stamp = to_time(c.stamp)
        self._arm.publish(m)
        self._gripper.publish(m)

    def _publish_stop(self) -> None:
        self._publish(JointCommand(self._stamp, HOLD, [0.0] * len(JOINTS), 0.0))

    def _tell(self) -> None:
        gate, now = self._gate, time.monotonic()
        if gate.reason != self._told:
            self._told, self._told_at, self._stopped_at = gate.reason, 0.0, now
            if gate.reason:
                self._publish_stop()
                self.get_logger().warning(f'stopped: {gate.reason}')
        if now - self._told_at >= self.HEARTBEAT_S:
            self._told_at = now
            m = SafetyState(stopped=gate.stopped, reason=gate.reason, force_n=gate.force_n,
                            peak_force_n=gate.peak_force_n)
            m.header.stamp = to_time(self._stamp)
            self._state.publish(m)

    def _on_clear(self, _, response: Trigger.Response) -> Trigger.Response:
        was = self._gate.reason
        if was and time.monotonic() - self._stopped_at < self.STOP_HOLDS_S:
            error = f'{was}: only just stopped'
        else:
            error = self._gate.clear()
        response.success = not error
        response.message = error or (f'cleared {was}' if was else 'was not stopped')
        self._tell()
        return response

    def stop(self) -> bool:
        self._publish_stop()
        return True


def main() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)   # until the gate is there
    run(SafetyGateNode, 'safety_gate')
