# SPDX-License-Identifier: Apache-2.0
"""Executable `safety_gate`: passes or stops what the controller wants."""

from __future__ import annotations

import time

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from chef_control.health import Report
from chef_control.lifecycle import MovingNode
from chef_control.node import CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE, run, to_time
from chef_control.safety import HOLD, JointCommand, SafetyGate
from chef_control.sensors import LazySample, subscribe
from chef_control.urdf import joint_range
from chef_msgs.msg import JointVelocityCommand, SafetyState
from chef_task.cell import CellConfig
from chef_task.messages import stamp_ns
from chef_task.qos import profile
from chef_task.records import Reason
from chef_task.spaces import JOINTS


class SafetyGateNode(MovingNode):
    """Shell over SafetyGate; its own timer looks for silence.

    The loss of any node stops the arm. A latched stop outlives deactivation and being configured anew.
    """

    PARAMS = (CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE)
    HEARS_OF_LOSS = True
    CHECK_PERIOD_S = 0.01
    HEARTBEAT_S = 0.1
    STOP_HOLDS_S = 0.5      # a stop cannot be cleared sooner: a belated request must not undo it
    # What may be tightened while the gate runs; set from the config when it is configured.
    TIGHTENED = {'force_limit_n': 'N, wrist force that stops the arm', 'speed_scale': 'of the joint velocities allowed'}

    def __init__(self, name: str):
        super().__init__(name)
        self._gate: SafetyGate | None = None
        self._cell_active = True    # until a manager says otherwise
        self.add_on_set_parameters_callback(self._on_set)
        self._told = ''
        self._told_at = self._stopped_at = 0.0
        self._stamp = 0

    # ---- lifecycle ----------------------------------------------------------------------------

    def configure(self) -> None:
        cell = CellConfig.load(self.params['cell_config'])
        deadline = self.params['lockstep_deadline_s'] if self.lockstep else 0.0
        before, self._gate = self._gate, SafetyGate(cell.limits, deadline, joint_range(cell.urdf, cell.joints))
        if before is not None:
            self._gate.trip(before.reason)
        self._declare_limits()
        # Heard as long as the node is configured, silent unless it is active.
        self._arm, self._gripper = (
            self.create_lifecycle_publisher(JointVelocityCommand, f'{device}/velocity_command', profile('stream'))
            for device in ('arm', 'gripper'))
        self._state = self.create_publisher(SafetyState, 'safety/state', profile('state'))
        made = subscribe(self, ('wrench', 'joints'), self.lockstep, self._on_sample)
        self.quiet.append(made['joints'])   # the wrench, as frequent, wakes the gate for both
        self._desired = self.health.meter('desired')
        self.create_subscription(JointVelocityCommand, 'joint_velocity_desired', self._on_desired,
                                 profile('stream'))
        for service, callback in (('stop', self._on_stop), ('clear', self._on_clear), ('rearm', self._on_rearm)):
            self.create_service(Trigger, f'safety/{service}', callback)
        self.create_subscription(Bool, 'cell_active', self._on_cell_active, profile('state'))
        self.create_subscription(String, 'safety/silence', self._on_silence, profile('stream'))
        self.every(self.CHECK_PERIOD_S, self._check)

    def activate(self) -> None:
        self._gate.forget_command()

    def halt(self) -> None:
        self._publish_stop()
        self._gate.forget_command()

    def _declare_limits(self) -> None:
        """As of the config; what was tightened before the node was configured anew ends here."""
        for name, value in (('force_limit_n', self._gate.limits.force_n), ('speed_scale', self._gate.speed_scale)):
            if self.has_parameter(name):
                self.undeclare_parameter(name)
            span = FloatingPointRange(from_value=0.0, to_value=float(value))
            self.declare_parameter(name, float(value), ParameterDescriptor(
                description=f'{self.TIGHTENED[name]}; can only be lowered', floating_point_range=[span]))

    def _on_set(self, parameters) -> SetParametersResult:
        given = {p.name: p.value for p in parameters if p.name in self.TIGHTENED}
        in_force = {'force_limit_n': self._gate.limits.force_n, 'speed_scale': self._gate.speed_scale} if given else {}
        if any(value != in_force[name] for name, value in given.items()):
            try:
                self._gate.tighten(*{**in_force, **given}.values())
            except ValueError as e:
                return SetParametersResult(successful=False, reason=str(e))
            self.get_logger().warning(f'limits in force: {self._gate.limits.force_n:g} N, velocities times '
                                      f'{self._gate.speed_scale:g}')
            self._told_at = 0.0
        return SetParametersResult(successful=True)

    # ---- inputs -------------------------------------------------------------------------------

    def _on_sample(self, stream: str, stamp: int, sample: LazySample) -> None:
        now = time.monotonic_ns()
        try:
            if stream == 'wrench':
                self._stamp = stamp
                self._gate.on_wrench(sample['force'], sample['torque'], now)
            else:
                self._gate.on_joints(sample['position'], sample['velocity'], now)
        except ValueError as e:
            self._gate.trip(f'{Reason.BAD_SENSOR.value}:{e}')
        self._tell()

    def _on_desired(self, m: JointVelocityCommand) -> None:
        if not self.active:
            return
        self._desired.tick()
        self._tell()
        command = JointCommand(stamp_ns(m.header.stamp), m.mode, m.velocity, m.gripper_velocity)
        age_s = 0.0 if self.lockstep else (self.wall_ns() - command.stamp) * 1e-9
        self._publish(self._gate.filter(command, time.monotonic_ns(), age_s))
        self._tell()

    def _on_cell_active(self, m: Bool) -> None:
        self._cell_active = m.data
        self._tell()

    def _on_silence(self, m: String) -> None:
        """A driver has stopped its actuator, as commands that were sent to it did not come, or came late."""
        self._gate.on_silence(m.data)
        self._tell()

    def _check(self) -> None:
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
        """Heeds what came from outside, and tells what has changed."""
        gate, now = self._gate, time.monotonic()
        if self.node_lost:
            gate.trip(Reason.NODE_LOST.value)
        gate.held = '' if self.active and self._cell_active else Reason.INACTIVE.value
        reason = gate.why
        if reason != self._told:
            self._told, self._told_at, self._stopped_at = reason, 0.0, now
            if reason:
                self._publish_stop()
            if gate.reason:
                self.get_logger().warning(f'stopped: {reason}')
        if now - self._told_at >= self.HEARTBEAT_S:
            self._told_at = now
            m = SafetyState(stopped=bool(reason), reason=reason, force_n=gate.force_n,
                            peak_force_n=gate.peak_force_n, force_limit_n=gate.limits.force_n,
                            speed_scale=gate.speed_scale)
            m.header.stamp = to_time(self._stamp)
            self._state.publish(m)

    # ---- services -----------------------------------------------------------------------------

    def _on_stop(self, _, response: Trigger.Response) -> Trigger.Response:
        self._gate.trip(Reason.OPERATOR_STOP.value)
        self._tell()
        response.success, response.message = True, f'stopped: {self._gate.reason}'
        return response

    def _on_clear(self, _, response: Trigger.Response) -> Trigger.Response:
        return self._clear_stop(response, by_operator=True)

    def _on_rearm(self, _, response: Trigger.Response) -> Trigger.Response:
        return self._clear_stop(response, by_operator=False)

    def _clear_stop(self, response: Trigger.Response, by_operator: bool) -> Trigger.Response:
        was = self._gate.reason
        if was and time.monotonic() - self._stopped_at < self.STOP_HOLDS_S:
            error = f'{was}: only just stopped'
        else:
            error = self._gate.clear(by_operator)
        response.success = not error
        response.message = error or (f'cleared {was}' if was else 'was not stopped')
        self._tell()
        return response

    def diagnose(self, report: Report) -> None:
        super().diagnose(report)
        if not self.configured:
            return
        gate = self._gate
        report.values |= {'force_n': gate.force_n, 'force_peak_n': gate.peak_force_n,
                          'force_limit_n': gate.limits.force_n, 'speed_scale': gate.speed_scale}
        if self.active and gate.stopped:
            report.warn(f'stopped: {gate.why}')


def main() -> None:
    run(SafetyGateNode, 'safety_gate')
