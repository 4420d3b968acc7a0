# SPDX-License-Identifier: Apache-2.0
"""Drivers of the simulated cell: the device server's samples to messages, commands to the server.

A real cell's drivers publish the same topics; nothing else in the graph knows which ones run.
"""

from __future__ import annotations

import time

import numpy as np
from geometry_msgs.msg import Pose, PoseArray, PoseStamped, TwistStamped, WrenchStamped
from sensor_msgs.msg import JointState

from chef_control.drivers.watchdog import CommandWatchdog
from chef_control.node import (CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE, WORLD_SOCKET, CellNode, ConfigError,
                               to_time)
from chef_msgs.msg import GripperState, JointVelocityCommand
from chef_sim.client import DeviceClient, DeviceError
from chef_task.cell import CellConfig
from chef_task.messages import stamp_ns
from chef_task.qos import profile
from chef_task.spaces import JOINTS, STREAMS

BASE_FRAME = 'base'


class SimulatedDriver(CellNode):
    """Connects to the device server and publishes what `on_sample` makes of its samples."""

    PARAMS = (CELL_CONFIG, WORLD_SOCKET, LOCKSTEP, LOCKSTEP_DEADLINE)
    DEVICE_STREAMS: tuple[str, ...] = ()
    LOST_S = 0.5

    def __init__(self, name: str):
        super().__init__(name)
        self._lost: tuple[float, str] | None = None
        self.cell = CellConfig.load(self.params['cell_config'])
        self.prepare()
        try:
            self._client = DeviceClient(self.params['world_socket'], self.get_name(), self.DEVICE_STREAMS,
                                        on_batch=self._on_batch, on_lost=self._on_lost)
        except DeviceError as e:
            raise ConfigError(str(e)) from None

    def prepare(self) -> None:
        """Makes publishers and subscriptions; called before the first sample can arrive."""
        raise NotImplementedError

    def on_sample(self, sample: dict) -> None:
        """One sample of one of DEVICE_STREAMS; runs in the client's thread."""
        raise NotImplementedError

    def sensor_publisher(self, stream: str, msgtype):
        kind = 'image_out' if STREAMS[stream].is_image else 'sensor_out'
        return self.create_publisher(msgtype, STREAMS[stream].topic, profile(kind))

    def _on_batch(self, samples: list[dict]) -> None:
        for sample in samples:
            self.on_sample(sample)

    def _on_lost(self, error: str) -> None:
        self._lost = self._lost or (time.monotonic(), error)

    def work(self) -> bool:
        # Where the whole graph is being stopped, the world may be gone before this node is told.
        if self._lost and time.monotonic() - self._lost[0] > self.LOST_S and self.finished is None:
            self.get_logger().error(f'the simulated world is gone: {self._lost[1]}')
            self.finished = 1
        return False

    def stop(self) -> bool:
        self._client.close()    # before the publishers go, which its thread uses
        return True

    def send(self, packet: dict) -> None:
        try:
            self._client.send(packet)
        except DeviceError as e:
            self._on_lost(str(e))


def fill_pose(message: Pose, pose) -> None:
    """pose: [7], x y z qw qx qy qz."""
    p, o = message.position, message.orientation
    p.x, p.y, p.z, o.w, o.x, o.y, o.z = (float(v) for v in pose)


class ActuatorDriver(SimulatedDriver):
    """A driver that also moves something: stops it when its commands cease."""

    COMMAND_TOPIC = ''
    WATCHDOG_PERIOD_S = 0.02

    def prepare(self) -> None:
        self._watchdog = CommandWatchdog(self.cell.limits.command_age_s)
        self.create_subscription(JointVelocityCommand, self.COMMAND_TOPIC, self._on_command,
                                 profile('stream'))
        if not self.lockstep:  # in lockstep time itself waits for commands
            self.every(self.WATCHDOG_PERIOD_S, self._check)

    def packet(self, command: JointVelocityCommand | None, stamp: int) -> dict:
        """The device's command packet; zero velocity for None."""
        raise NotImplementedError

    def _on_command(self, m: JointVelocityCommand) -> None:
        self._watchdog.command(m.mode, time.monotonic())
        self.send(self.packet(m, stamp_ns(m.header.stamp)))

    def _check(self) -> None:
        if self._watchdog.expired(time.monotonic()):
            self.send(self.packet(None, self.wall_ns()))
            self.get_logger().warning('no command for '
                                      f'{self.cell.limits.command_age_s * 1e3:.0f} ms: stopped')

    def stop(self) -> bool:
        if not self.lockstep:
            self.send(self.packet(None, self.wall_ns()))
        return super().stop()


class ArmDriver(ActuatorDriver):
    """Publishes joint states and the tool's pose and velocity; applies joint velocities."""

    DEVICE_STREAMS = ('joints', 'tcp')
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

    DEVICE_STREAMS = ('gripper',)
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


class WrenchDriver(SimulatedDriver):
    """Publishes the wrist's force and torque."""

    DEVICE_STREAMS = ('wrench',)

    def prepare(self) -> None:
        self._wrench = self.sensor_publisher('wrench', WrenchStamped)

    def on_sample(self, sample: dict) -> None:
        m = WrenchStamped()
        m.header.stamp, m.header.frame_id = to_time(sample['stamp']), 'wrist_ft'
        f, t = m.wrench.force, m.wrench.torque
        f.x, f.y, f.z = (float(v) for v in sample['force'])
        t.x, t.y, t.z = (float(v) for v in sample['torque'])
        self._wrench.publish(m)


class ObjectTracker(SimulatedDriver):
    """Publishes the objects' true poses, as a real cell's tracker publishes its estimates."""

    DEVICE_STREAMS = ('objects',)

    def prepare(self) -> None:
        self._objects = self.sensor_publisher('objects', PoseArray)

    def on_sample(self, sample: dict) -> None:
        m = PoseArray()
        m.header.stamp, m.header.frame_id = to_time(sample['stamp']), BASE_FRAME
        for pose in sample['poses']:
            p = Pose()
            fill_pose(p, pose)
            m.poses.append(p)
        self._objects.publish(m)


def image_message(image: np.ndarray, stamp: int, frame: str):
    """An rgb8 sensor_msgs/Image of `image` [H, W, 3] uint8, stamped at capture, ns."""
    from array import array

    from sensor_msgs.msg import Image

    m = Image(height=image.shape[0], width=image.shape[1], encoding='rgb8', step=3 * image.shape[1])
    m.header.stamp, m.header.frame_id = to_time(stamp), frame
    # array.array takes the fast path of the generated setter; a list would take ms
    m.data = array('B', image.tobytes())
    return m
