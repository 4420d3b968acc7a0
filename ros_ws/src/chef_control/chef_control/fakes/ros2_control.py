# SPDX-License-Identifier: Apache-2.0
"""A stand-in arm with ros2_control: a JointGroupVelocityController and a joint_state_broadcaster, as their topics show them.

    python -m chef_control.fakes.ros2_control --urdf ARM.urdf --joints a,b,c --home 0,0.5,1 [--world SOCKET]

Like the real controller it follows its last command for ever. Its body is physics of the URDF (MuJoCo), or the simulated
world's arm.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from chef_control.fakes import arm_body
from chef_control.fakes.arm_body import PhysicalBody
from chef_control.kinematics import Kinematics
from chef_sim.client import DeviceClient, DeviceError
from chef_sim.world import HOME

_STEP_S = 0.01


class FakeArm:
    """The controller and the broadcaster as one node, in a context and a thread of its own.

    joints: of the controller, in its order; it refuses commands of another length, as the real one does. A gripper's
    joint comes with the joint states too, and they are not in the controller's order.
    """

    def __init__(self, joints, body: PhysicalBody | None = None, world: str = '',
                 controller: str = '/velocity_controller', joint_states: str = '/joint_states'):
        self._joints, self._body = list(joints), body
        self._velocity, self._lock = [0.0] * len(self._joints), threading.Lock()
        self.motion: list[tuple[int, bool]] = []    # (ns of the system clock, whether it is to move) at each change
        self.mute = False       # tells no joints any more
        self.effortless = False     # tells no torques
        self._unloaded = False
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('controller_manager', context=self._context, enable_rosout=False,
                                       start_parameter_services=False)
        self._states = self._node.create_publisher(JointState, joint_states, QoSProfile(depth=10))
        self._commands = self._node.create_subscription(Float64MultiArray, f'{controller}/commands', self._on_command,
                                                        QoSProfile(depth=10))
        self._client = DeviceClient(world, 'fake_arm', ('joints',), on_batch=self._on_world) if world else None
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._spin, self._run)]
        for thread in self._threads:
            thread.start()

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self._node)
        try:
            while self._context.ok():
                executor.spin_once(timeout_sec=0.1)
                if self._unloaded and self._commands is not None:   # here, as the executor must not be waiting for it
                    self._node.destroy_subscription(self._commands)
                    self._commands = None
        except (ExternalShutdownException, KeyboardInterrupt):
            pass

    def _on_command(self, m: Float64MultiArray) -> None:
        if len(m.data) != len(self._joints):
            self._node.get_logger().error(f'a command of {len(m.data)} velocities, not {len(self._joints)}')
            return
        with self._lock:
            self._velocity = list(m.data)
            moving = any(self._velocity)
            if not self.motion or self.motion[-1][1] != moving:
                self.motion.append((time.time_ns(), moving))

    def _on_world(self, samples: list[dict]) -> None:
        self._show(samples[-1])

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + _STEP_S, time.monotonic() - 0.1)    # a body that cannot keep up moves less
            with self._lock:
                velocity = self._velocity
            if self._body is not None:
                self._show(self._body.advance(velocity, _STEP_S))
                continue
            try:
                self._client.send({'command': 'arm', 'stamp': time.time_ns(), 'velocity': velocity})
            except DeviceError:
                self._ended.set()

    def _show(self, sample: dict) -> None:
        if self.mute or self._ended.is_set():
            return
        m = JointState(name=['a_finger', *reversed(self._joints)])
        m.header.stamp.sec, m.header.stamp.nanosec = divmod(sample['stamp'], 1_000_000_000)
        m.position, m.velocity, m.effort = ([0.0, *reversed(sample[k])] for k in ('position', 'velocity', 'effort'))
        if self.effortless:
            m.effort = []
        self._states.publish(m)

    @property
    def alive(self) -> bool:
        """Whether its body is still there."""
        return not self._ended.is_set()

    def unload(self) -> None:
        """The controller is taken down: nobody listens to commands any more."""
        self._unloaded = True
        with self._lock:
            self._velocity = [0.0] * len(self._joints)

    def close(self) -> None:
        """Leaves the graph."""
        self._ended.set()
        if self._client is not None:
            self._client.close()
        self._threads[1].join(2.0)
        self._context.try_shutdown()
        self._threads[0].join(2.0)
        with contextlib.suppress(Exception):    # a middleware that is going down already
            self._node.destroy_node()           # else its controller listens on until the node is garbage

    def __enter__(self) -> FakeArm:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def main(argv: list[str] | None = None) -> None:
    """Runs a stand-in arm until it is interrupted."""
    parser = argparse.ArgumentParser(prog='python -m chef_control.fakes.ros2_control', description=main.__doc__)
    arm_body.add_arguments(parser)
    parser.add_argument('--home', default='', help='where its joints start, rad, separated by commas')
    parser.add_argument('--controller', default='/velocity_controller')
    parser.add_argument('--joint-states', default='/joint_states')
    parser.add_argument('--world', default='', help="the simulated world's socket; a body of its own without")
    args = parser.parse_args(argv)
    joints = tuple(args.joints.split(','))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        Kinematics(args.urdf, joints, arm_body.pinch(args))     # so that its messages are those of the driver
        home = [float(v) for v in args.home.split(',')] if args.home else list(HOME)
        body = None if args.world else PhysicalBody(args.urdf, joints, home)
        arm = FakeArm(joints, body, args.world, args.controller, args.joint_states)
    except (DeviceError, ValueError) as e:
        print(f'fake arm: {" ".join(str(e).split())}', file=sys.stderr)
        sys.exit(1)
    with arm:
        print(f'a stand-in arm with {len(joints)} joints listens on {args.controller}/commands', flush=True)
        while not ended.wait(0.2) and arm.alive:
            pass


if __name__ == '__main__':
    main()
