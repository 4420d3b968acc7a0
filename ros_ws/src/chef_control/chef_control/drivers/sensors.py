# SPDX-License-Identifier: Apache-2.0
"""Drivers: a device's samples to messages, commands to the device.

The device is one of a real cell's (`chef_control.devices`), or the simulated world's server; what the driver publishes
is the same, and nothing else in the graph knows which one it is.
"""

from __future__ import annotations

import functools
import math
import time

from geometry_msgs.msg import Pose, PoseArray, PoseStamped, WrenchStamped
from sensor_msgs.msg import Image

from chef_control.devices import Device, DeviceError, open_device
from chef_control.health import Report
from chef_control.node import (CELL_CONFIG, DEVICE_DEADLINE, LOCKSTEP, LOCKSTEP_DEADLINE, WORLD_SOCKET, CellNode,
                               ConfigError, Param, asked_to_stop, to_time)
from chef_sim import client as world
from chef_task.cell import CellConfig
from chef_task.errors import one_line
from chef_task.messages import decode, stamp_ns
from chef_task.qos import profile
from chef_task.spaces import CAMERAS, OBJECTS, STREAMS

BASE_FRAME = 'base'
# device's stream to what its driver makes of it, where that is another thing
METERS = {'render': 'image', **dict.fromkeys(CAMERAS, 'image')}


class DeviceDriver(CellNode):
    """Opens its device (`connect`) and publishes what `on_sample` makes of its samples.

    ROLE: the device's key in a real cell's `devices`. DEVICE_STREAMS: what it sends.
    """

    PARAMS = (CELL_CONFIG, WORLD_SOCKET, LOCKSTEP, LOCKSTEP_DEADLINE, DEVICE_DEADLINE)
    RETRY_S = 0.5
    ROLE = ''
    DEVICE_STREAMS: tuple[str, ...] = ()
    LOST_S = 0.5
    SILENT_S = 1.0      # a device that is silent for longer shows in the diagnostics
    _lost: tuple[float, str] | None = None
    _device: Device | world.DeviceClient | None = None

    def connect(self) -> None:
        """ConfigError if the device is not there or its settings are wrong."""
        self.cell = CellConfig.load(self.params['cell_config'])
        self._newest = 0    # stamp of the newest sample, ns
        # in lockstep the device waits for commands, which may be never
        silent_s = None if self.lockstep else self.SILENT_S
        self.prepare()
        self._meters = {s: self.health.meter(METERS.get(s, s), silent_s) for s in self.DEVICE_STREAMS}
        try:
            self._device = self._open()
        except (DeviceError, world.DeviceError, ValueError) as e:
            raise ConfigError(str(e)) from None

    def _open(self) -> Device | world.DeviceClient:
        if self.cell.real:
            return self._wait_for_device()
        return world.DeviceClient(self.params['world_socket'], self.get_name(), self.DEVICE_STREAMS,
                                  on_batch=self._on_batch, on_lost=self._on_lost,
                                  connect_deadline_s=self.params['device_deadline_s'])

    def _wait_for_device(self) -> Device:
        """Devices are powered, plugged in and faked at their own pace, but not for ever."""
        end, said = time.monotonic() + self.params['device_deadline_s'], ''
        while True:
            try:
                return open_device(self.cell, self.ROLE, self._on_batch, self._on_lost, self.device_name)
            except DeviceError as e:
                if time.monotonic() > end or asked_to_stop():
                    raise
                if str(e) != said:
                    said = str(e)
                    self.get_logger().warning(f'{said}; trying again')
            time.sleep(self.RETRY_S)

    @property
    def device_name(self) -> str:
        """Which device of the role, where it has several."""
        return ''

    def prepare(self) -> None:
        """Makes publishers and subscriptions; called before the first sample can arrive."""
        raise NotImplementedError

    def on_sample(self, sample: dict) -> None:
        """One sample of one of DEVICE_STREAMS; runs in the device's thread."""
        raise NotImplementedError

    def sensor_publisher(self, stream: str, msgtype):
        kind = 'image_out' if STREAMS[stream].is_image else 'sensor_out'
        return self.create_publisher(msgtype, STREAMS[stream].topic, profile(kind))

    def _on_batch(self, samples: list[dict]) -> None:
        for sample in samples:
            try:
                self._newest = sample['stamp']
                self.on_sample(sample)
                self._meters[sample['stream']].tick()
            except Exception as e:  # the device's thread goes on; a stream that falls silent is seen by others
                self.on_bad_sample(e)

    def on_bad_sample(self, error: Exception) -> None:
        """A sample that could not be published."""
        self.health.add('bad_samples')
        self.get_logger().error(f'a sample could not be published: {type(error).__name__}: {one_line(error, 300)}',
                                throttle_duration_sec=1.0)

    def _on_lost(self, error: str) -> None:
        self._lost = self._lost or (time.monotonic(), error)

    def work(self) -> bool:
        # Where the whole graph is being stopped, the device may be gone before this node is told.
        if self._lost and time.monotonic() - self._lost[0] > self.LOST_S and self.finished is None:
            self.get_logger().error(f'the device is lost: {self._lost[1]}')
            self.finished = 1
        return False

    def diagnose(self, report: Report) -> None:
        super().diagnose(report)
        if self._device is not None and not self.lockstep:
            report.values['sample_age_ms'] = (self.wall_ns() - self._newest) * 1e-6
        report.values.update(getattr(self._device, 'diagnostics', dict)())
        if self._lost:
            report.error(f'the device is lost: {self._lost[1]}')

    def disconnect(self) -> None:
        if self._device is not None:
            self._device.close()    # before the publishers go, which its thread uses
            self._device = None

    def send(self, packet: dict) -> None:
        try:
            self._device.send(packet)
        except (DeviceError, world.DeviceError) as e:
            self._on_lost(str(e))


class SensorDriver(DeviceDriver):
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

    ROLE, DEVICE_STREAMS = 'wrench', ('wrench',)

    def prepare(self) -> None:
        self._wrench = self.sensor_publisher('wrench', WrenchStamped)
        if self.cell.real:
            self.create_subscription(PoseStamped, STREAMS['tcp_pose'].topic, self._on_pose, profile('sensor'))

    def _on_pose(self, m: PoseStamped) -> None:
        """A sensor that feels its tool's weight needs to know which way is down."""
        o = m.pose.orientation
        if hasattr(self._device, 'orient'):
            self._device.orient((o.w, o.x, o.y, o.z))

    def on_sample(self, sample: dict) -> None:
        m = WrenchStamped()
        m.header.stamp, m.header.frame_id = to_time(sample['stamp']), 'wrist_ft'
        f, t = m.wrench.force, m.wrench.torque
        f.x, f.y, f.z = (float(v) for v in sample['force'])
        t.x, t.y, t.z = (float(v) for v in sample['torque'])
        self._wrench.publish(m)


class ObjectTracker(SensorDriver):
    """Publishes the objects' poses: in a simulated cell the true ones, in a real one its tracker's estimates."""

    PARAMS = (*SensorDriver.PARAMS, Param('triplet', 1, 'object triplet in the scene, 1..5'))
    ROLE, DEVICE_STREAMS = 'tracker', ('objects',)
    OLD_S = 0.5     # an object unseen for longer shows in the diagnostics

    def prepare(self) -> None:
        self._objects = self.sensor_publisher('objects', PoseArray)
        self._quality, self._last = None, {}
        if self.cell.real:
            from chef_msgs.msg import ObjectsQuality

            self._quality = self.create_publisher(ObjectsQuality, 'objects/quality', profile('stream'))

    def connect(self) -> None:
        super().connect()
        if hasattr(self._device, 'expect'):
            self._device.expect(self.params['triplet'])
        for camera in getattr(self._device, 'cameras', ()):     # a tracker that looks at the cameras' pictures
            self.create_subscription(Image, STREAMS[camera].topic, functools.partial(self._on_image, camera),
                                     profile('sensor'))

    def _on_image(self, camera: str, message: Image) -> None:
        try:
            image = decode(camera, message)['image']
        except ValueError as e:
            self.on_bad_sample(e)
        else:
            self._device.feed(camera, image, stamp_ns(message.header.stamp))

    def on_sample(self, sample: dict) -> None:
        m = PoseArray()
        m.header.stamp, m.header.frame_id = to_time(sample['stamp']), BASE_FRAME
        for pose in sample['poses']:
            p = Pose()
            fill_pose(p, pose)
            m.poses.append(p)
        self._objects.publish(m)
        if self._quality is not None and 'confidence' in sample:
            self._last = sample
            self._quality.publish(self._quality.msg_type(header=m.header, **{k: sample[k] for k in (
                'confidence', 'sigma_m', 'age_s', 'views', 'dropped')}))

    def diagnose(self, report: Report) -> None:
        super().diagnose(report)
        for name, confidence, age in zip(OBJECTS, self._last.get('confidence', ()), self._last.get('age_s', ())):
            report.values[f'{name}_confidence'], report.values[f'{name}_age_s'] = confidence, age
            if age > self.OLD_S:
                report.warn(f'{name} was not seen for {age:.1f} s' if math.isfinite(age) else f'{name} was never seen')
