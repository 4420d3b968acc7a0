# SPDX-License-Identifier: Apache-2.0
"""Drivers of the simulated cell: the device server's samples to messages, commands to the server.

A real cell's drivers publish the same topics; nothing else in the graph knows which ones run.
"""

from __future__ import annotations

import time

from geometry_msgs.msg import Pose, PoseArray, WrenchStamped

from chef_control.health import Report
from chef_control.node import (CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE, WORLD_SOCKET, CellNode, ConfigError,
                               to_time)
from chef_sim.client import DeviceClient, DeviceError
from chef_task.cell import CellConfig
from chef_task.qos import profile
from chef_task.spaces import STREAMS

BASE_FRAME = 'base'
METERS = {'render': 'image'}    # device's stream to what its driver makes of it, where that is another thing


class SimulatedDriver(CellNode):
    """Connects to the device server (`connect`) and publishes what `on_sample` makes of its samples."""

    PARAMS = (CELL_CONFIG, WORLD_SOCKET, LOCKSTEP, LOCKSTEP_DEADLINE)
    DEVICE_STREAMS: tuple[str, ...] = ()
    LOST_S = 0.5
    SILENT_S = 1.0      # a device that is silent for longer shows in the diagnostics
    _lost: tuple[float, str] | None = None
    _client: DeviceClient | None = None

    def connect(self) -> None:
        """ConfigError if there is no world."""
        self.cell = CellConfig.load(self.params['cell_config'])
        self._newest = 0    # stamp of the newest sample, ns
        # in lockstep the device waits for commands, which may be never
        silent_s = None if self.lockstep else self.SILENT_S
        self._meters = {s: self.health.meter(METERS.get(s, s), silent_s) for s in self.DEVICE_STREAMS}
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
            self._newest = sample['stamp']
            self.on_sample(sample)
            self._meters[sample['stream']].tick()

    def _on_lost(self, error: str) -> None:
        self._lost = self._lost or (time.monotonic(), error)

    def work(self) -> bool:
        # Where the whole graph is being stopped, the world may be gone before this node is told.
        if self._lost and time.monotonic() - self._lost[0] > self.LOST_S and self.finished is None:
            self.get_logger().error(f'the simulated world is gone: {self._lost[1]}')
            self.finished = 1
        return False

    def diagnose(self, report: Report) -> None:
        super().diagnose(report)
        if self._client is not None and not self.lockstep:
            report.values['sample_age_ms'] = (self.wall_ns() - self._newest) * 1e-6

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.close()    # before the publishers go, which its thread uses
            self._client = None

    def send(self, packet: dict) -> None:
        try:
            self._client.send(packet)
        except DeviceError as e:
            self._on_lost(str(e))


class SensorDriver(SimulatedDriver):
    """A driver that only observes."""

    def __init__(self, name: str):
        super().__init__(name)
        self.connect()

    def stop(self) -> bool:
        self.disconnect()
        return True


def fill_pose(message: Pose, pose) -> None:
    """pose: [7], x y z qw qx qy qz."""
    p, o = message.position, message.orientation
    p.x, p.y, p.z, o.w, o.x, o.y, o.z = (float(v) for v in pose)


class WrenchDriver(SensorDriver):
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


class ObjectTracker(SensorDriver):
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
