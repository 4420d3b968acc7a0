# SPDX-License-Identifier: Apache-2.0
"""Executable `velocity_controller`: 5-D commands in, joint velocities out."""

from __future__ import annotations

import time

from builtin_interfaces.msg import Time

from chef_control.kinematics import Kinematics
from chef_control.lifecycle import MovingNode
from chef_control.node import CELL_CONFIG, LOCKSTEP, run
from chef_control.sensors import LazySample, subscribe
from chef_control.velocity_control import Arbiter, ControllerConfig, VelocityController
from chef_msgs.msg import Command, JointVelocityCommand
from chef_task.cell import CellConfig
from chef_task.messages import stamp_ns
from chef_task.qos import profile
from chef_task.spaces import JOINTS


class VelocityControllerNode(MovingNode):
    """Stateless: each command is answered from the newest joint positions.

    In lockstep from those of the command's own stamp, which may come after it: the same run gives the same motion. If
    they never come, the safety gate stops the arm for want of a command, as time itself then stands still.
    """

    PARAMS = (CELL_CONFIG, LOCKSTEP)
    _waiting: Command | None = None     # in lockstep, for the joints of its stamp

    def configure(self) -> None:
        cell = CellConfig.load(self.params['cell_config'])
        kinematics = Kinematics(cell.urdf, cell.joints, cell.pinch)
        self._controller = VelocityController(kinematics, cell.limits,
                                              ControllerConfig(cell.home_rad, cell.gripper))
        self._joints: LazySample | None = None
        self._joints_stamp = 0
        self._waiting = None
        self._arbiter = Arbiter(cell.limits.command_age_s)
        self._desired = self.create_lifecycle_publisher(JointVelocityCommand, 'joint_velocity_desired',
                                                        profile('stream'))
        self._commands = self.health.meter('command')
        self._stamp = Time()    # of the newest command
        self.quiet += subscribe(self, ('joints',), self.lockstep, self._on_joints).values()
        self.create_subscription(Command, 'command', self._on_command, profile('stream'))

    def _on_joints(self, stream: str, stamp: int, sample: LazySample) -> None:
        self._joints, self._joints_stamp = sample, stamp
        waiting = self._waiting
        if waiting is not None and stamp >= stamp_ns(waiting.header.stamp):
            self._waiting = None
            self._follow(waiting)

    def hungry(self) -> bool:
        return self._waiting is not None

    def halt(self) -> None:
        self._waiting = None
        hold = JointVelocityCommand(mode=Command.HOLD, velocity=[0.0] * len(JOINTS))
        hold.header.stamp = self._stamp
        self._desired.publish(hold)

    def _on_command(self, m: Command) -> None:
        if not self.active:
            return
        self._commands.tick()
        self._stamp = m.header.stamp
        if not self._arbiter.admits(m.source, m.mode == Command.MOVE, time.monotonic()):
            self.health.add('refused')
            self.get_logger().error(f'{m.source} commands while another does: ignored',
                                    throttle_duration_sec=1.0)
            return
        self._waiting = None
        if self.lockstep and m.mode == Command.MOVE and self._joints_stamp < stamp_ns(m.header.stamp):
            self._waiting = m
            return
        self._follow(m)

    def _follow(self, m: Command) -> None:
        out = JointVelocityCommand(header=m.header, mode=m.mode, velocity=[0.0] * len(JOINTS))
        if m.mode == Command.MOVE:
            if self._joints is None:
                self.get_logger().error('a command before the first joint_states: ignored')
                return
            try:
                q = self._joints['position']
                out.velocity = self._controller.joint_velocity(m.action, q, m.source).tolist()
                out.gripper_velocity = self._controller.gripper_velocity(m.action)
            except ValueError as e:
                # No answer: the safety gate stops the arm for want of a command.
                self.health.add('refused')
                self.get_logger().error(f'command of {m.source} refused: {e}')
                return
        self._desired.publish(out)


def main() -> None:
    run(VelocityControllerNode, 'velocity_controller')
