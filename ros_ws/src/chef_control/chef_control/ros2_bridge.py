# SPDX-License-Identifier: Apache-2.0
"""The process that commands an arm with ros2_control: started by `chef_control.devices.ros2_control`."""

from __future__ import annotations

import argparse
import socket
import threading
import time

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from chef_control.arm_link.bridge import RobotError, serve
from chef_control.arm_link.wire import Link
from chef_control.joint_states import JointStates
from chef_task.messages import stamp_ns

_LOOK_S = 0.1       # between two looks at who listens
_GONE_S = 1.0


class Robot:
    """Commands to the controller, joint states from the broadcaster; spins in a thread of its own."""

    def __init__(self, controller: str, topic: str, states: JointStates, arrival: bool, on_sample):
        self._topic, self._states, self._arrival, self._on_sample = topic, states, arrival, on_sample
        self._commands = f'{controller}/commands'
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('chef_arm', enable_rosout=False, start_parameter_services=False)
        self._publisher = self._node.create_publisher(Float64MultiArray, self._commands, 1)
        self._told = threading.Event()
        self._wrong = ''
        self._heard_s, self._looked_s = time.monotonic(), 0.0
        self._node.create_subscription(JointState, topic, self._on_joints, qos_profile_sensor_data)
        threading.Thread(target=self._spin, daemon=True).start()

    def _spin(self) -> None:
        executor = SingleThreadedExecutor()
        executor.add_node(self._node)
        try:
            executor.spin()
        except (ExternalShutdownException, KeyboardInterrupt):
            pass

    def _on_joints(self, m: JointState) -> None:
        stamp = time.time_ns() if self._arrival else stamp_ns(m.header.stamp)
        try:
            sample = self._states.sample(m.name, m.position, m.velocity, m.effort, stamp)
        except ValueError as e:
            self._wrong = f'{self._topic}: {e}'
            return
        if sample is not None:
            self._told.set()
            self._on_sample(sample)

    def wait(self, deadline_s: float) -> None:
        """Until the controller listens and the joints are told; RobotError if they are not in time."""
        end = time.monotonic() + deadline_s
        while True:
            if self._wrong:
                raise RobotError(self._wrong)
            if self._told.wait(0.02) and self._publisher.get_subscription_count():
                return
            if time.monotonic() > end:
                what = 'joints came on ' + self._topic if self._publisher.get_subscription_count() else \
                    f'controller listens on {self._commands}'
                raise RobotError(f'no {what} within {deadline_s:g} s: is it active, in this ROS_DOMAIN_ID?')

    def move(self, velocity: list[float]) -> None:
        """Joint velocities, [n] rad/s."""
        self._publisher.publish(Float64MultiArray(data=velocity))

    def fault(self) -> str:
        """Why it can no longer be driven, or ''."""
        now = time.monotonic()
        if now - self._looked_s > _LOOK_S:
            self._looked_s = now
            if self._publisher.get_subscription_count():
                self._heard_s = now
        if now - self._heard_s > _GONE_S:
            return f'its controller no longer listens on {self._commands}'
        return self._wrong


def main(argv: list[str] | None = None) -> None:
    """Connects the link (an inherited socket) with the arm."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--fd', type=int, required=True)
    parser.add_argument('--controller', required=True)
    parser.add_argument('--joint-states', required=True)
    parser.add_argument('--joints', required=True)
    parser.add_argument('--stamps', choices=('arrival', 'message'), required=True)
    parser.add_argument('--rate-hz', type=float, required=True)
    parser.add_argument('--deadline-s', type=float, required=True)
    parser.add_argument('--effort', action='store_true')
    args = parser.parse_args(argv)
    joints = args.joints.split(',')

    def start(on_sample):
        robot = Robot(args.controller, args.joint_states, JointStates(joints, args.effort, args.rate_hz),
                      args.stamps == 'arrival', on_sample)
        robot.wait(args.deadline_s)
        return robot, lambda: None

    serve(Link(socket.socket(fileno=args.fd)), len(joints), start)


if __name__ == '__main__':
    main()
