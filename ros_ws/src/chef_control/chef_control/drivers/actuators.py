# SPDX-License-Identifier: Apache-2.0
"""Drivers that move something: lifecycle nodes with a watchdog of their own."""

from __future__ import annotations

import time

from geometry_msgs.msg import PoseStamped, TwistStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from chef_control.drivers.sensors import BASE_FRAME, DeviceDriver, fill_pose
from chef_control.drivers.watchdog import CommandWatchdog
from chef_control.health import Report
from chef_control.lifecycle import MovingNode
from chef_control.node import to_time
from chef_control.safety import HOLD
from chef_msgs.msg import GripperState, JointVelocityCommand
from chef_task.messages import stamp_ns
from chef_task.qos import profile
from chef_task.spaces import JOINTS


class ActuatorDriver(MovingNode, DeviceDriver):
    """A driver that also moves something: only while it is active, and not when its commands cease or are old."""

    COMMAND_TOPIC = ''
    WATCHDOG_PERIOD_S = 0.02

    def configure(self) -> None:
        self.connect()

    def release(self) -> None:
        self.disconnect()

    def prepare(self) -> None:
        self._watchdog = CommandWatchdog(self.cell.limits.command_age_s)
        self._commands = self.health.meter('command')
        self._silence = self.create_publisher(String, 'safety/silence', profile('stream'))
        self.create_subscription(JointVelocityCommand, self.COMMAND_TOPIC, self._on_command,
                                 profile('stream'))
        if not self.lockstep:  # in lockstep time itself waits for commands
            self.every(self.WATCHDOG_PERIOD_S, self._check)

    def packet(self, command: JointVelocityCommand | None, stamp: int) -> dict:
        """The device's command packet; zero velocity for None."""
        raise NotImplementedError

    def _on_command(self, m: JointVelocityCommand) -> None:
        if not self.active:
            return
        self._commands.tick()
        stamp = stamp_ns(m.header.stamp)
        age_s = 0.0 if self.lockstep else (self.wall_ns() - stamp) * 1e-9
        if self._watchdog.admits(m.mode, age_s, time.monotonic()):
            self.send(self.packet(m, stamp))
        else:
            self.get_logger().warning(f'a command stamped {age_s * 1e3:.0f} ms ago: not obeyed',
                                      throttle_duration_sec=1.0)

    def _check(self) -> None:
        if self._watchdog.expired(time.monotonic()):
            self._send_stop()
            # The gate, which sent them, cannot know; without it the episode would go on with an arm that stands.
            self._silence.publish(String(data=self.ROLE))
            self.get_logger().warning('no command for '
                                      f'{self.cell.limits.command_age_s * 1e3:.0f} ms: stopped')

    def _send_stop(self) -> None:
        self.send(self.packet(None, self._newest if self.lockstep else self.wall_ns()))

    def halt(self) -> None:
        self._send_stop()
        self._watchdog.admits(HOLD, 0.0, time.monotonic())

    def diagnose(self, report: Report) -> None:
        super().diagnose(report)
        if self.configured:
            report.values['silences'] = self._watchdog.trips
            report.values['old_commands'] = self._watchdog.refused


class ArmDriver(ActuatorDriver):
    """Publishes joint states and the tool's pose and velocity; applies joint velocities."""

    ROLE, DEVICE_STREAMS = 'arm', ('joints', 'tcp')
    COMMAND_TOPIC = 'arm/velocity_command'

    def prepare(self) -> None:
        super().prepare()
        self._joints = self.sensor_publisher('joints', JointState)
        self._pose = self.sensor_publisher('tcp_pose', PoseStamped)
        self._twist = self.sensor_publisher('tcp_twist', TwistStamped)

    def packet(self, command, stamp) -> dict:
        velocity = [0.0] * len(JOINTS) if command is None else list(command.velocity)
        return {'command': 'arm', 'stamp': stamp, 'velocity': velocity}

    def on_sample(self, sample: dict) -> None:
        stamp = to_time(sample['stamp'])
        if sample['stream'] == 'joints':
            m = JointState(name=list(JOINTS), position=sample['position'], velocity=sample['velocity'],
                           effort=sample['effort'])
            m.header.stamp, m.header.frame_id = stamp, BASE_FRAME
            self._joints.publish(m)
            return
        pose, twist = PoseStamped(), TwistStamped()
        fill_pose(pose.pose, sample['pose'])
        linear, angular = twist.twist.linear, twist.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(v) for v in sample['twist'])
        for m, publisher in ((pose, self._pose), (twist, self._twist)):
            m.header.stamp, m.header.frame_id = stamp, BASE_FRAME
            publisher.publish(m)


class GripperDriver(ActuatorDriver):
    """Publishes the gripper's state; applies its velocity."""

    ROLE, DEVICE_STREAMS = 'gripper', ('gripper',)
    COMMAND_TOPIC = 'gripper/velocity_command'

    def prepare(self) -> None:
        super().prepare()
        self._state = self.sensor_publisher('gripper', GripperState)

    def packet(self, command, stamp) -> dict:
        velocity = 0.0 if command is None else command.gripper_velocity
        return {'command': 'gripper', 'stamp': stamp, 'velocity': velocity}

    def on_sample(self, sample: dict) -> None:
        m = GripperState(position=int(sample['position']), velocity=float(sample['velocity']),
                         grasp=int(sample['grasp']))
        m.header.stamp, m.header.frame_id = to_time(sample['stamp']), 'gripper'
        self._state.publish(m)
