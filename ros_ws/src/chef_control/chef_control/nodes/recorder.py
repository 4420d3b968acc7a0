# SPDX-License-Identifier: Apache-2.0
"""Executable `recorder`: every message of an episode to one bag."""

from __future__ import annotations

import time
from pathlib import Path

from rclpy.serialization import deserialize_message

from chef_control.bag_thread import MIN_FREE_BYTES
from chef_control.health import Report
from chef_control.node import LOCKSTEP, LOCKSTEP_DEADLINE, RUN_DIR, CellNode, ConfigError, Param, run, to_time
from chef_control.recording import FAILED, IDLE, QUARANTINED, RECORDING, SEALED, STALL_S, EpisodeRecorder, Status
from chef_control.sensors import message_class
from chef_msgs.msg import EpisodeInfo, RecorderState, Step
from chef_task.bag import codec
from chef_task.bag.disk import free_bytes
from chef_task.bag.errors import BagError
from chef_task.bag.qos import TopicQos
from chef_task.messages import stamp_ns
from chef_task.qos import profile
from chef_task.records import Reason
from chef_task.spaces import STREAMS, streams_of

STATES = {IDLE: RecorderState.IDLE, RECORDING: RecorderState.RECORDING, SEALED: RecorderState.SEALED,
          FAILED: RecorderState.FAILED, QUARANTINED: RecorderState.QUARANTINED}
# topic: (type, QoS profile)
EVENTS = {
    'tick': ('chef_msgs/msg/Tick', 'stream'),
    'action': ('chef_msgs/msg/Action', 'stream'),
    'command': ('chef_msgs/msg/Command', 'stream'),
    'step': ('chef_msgs/msg/Step', 'stream'),
    'episode': ('chef_msgs/msg/EpisodeInfo', 'state'),
    'joint_velocity_desired': ('chef_msgs/msg/JointVelocityCommand', 'stream'),
    'arm/velocity_command': ('chef_msgs/msg/JointVelocityCommand', 'stream'),
    'gripper/velocity_command': ('chef_msgs/msg/JointVelocityCommand', 'stream'),
    'safety/state': ('chef_msgs/msg/SafetyState', 'state'),
    'policy/state': ('chef_msgs/msg/PolicyState', 'state'),
    'objects/quality': ('chef_msgs/msg/ObjectsQuality', 'stream'),     # of a real cell's tracker
}


def extra_topics(text: str) -> dict[str, tuple[str, str]]:
    """Topic to type and QoS profile, of the parameter; ConfigError if it is not what it should be."""
    topics = {}
    for entry in filter(None, map(str.strip, text.split(','))):
        words = entry.split()
        try:
            message_class(words[1])
            topics[words[0]] = words[1], 'extra'
        except (IndexError, ValueError, AttributeError, ImportError):
            raise ConfigError(f"extra_topics: {entry!r} is not 'name package/msg/Type' of a known type") from None
    return topics


class RecorderNode(CellNode):
    """Shell over EpisodeRecorder: raw subscriptions, a heartbeat, and an eye on the episode node."""

    PARAMS = (RUN_DIR, LOCKSTEP, LOCKSTEP_DEADLINE,
              Param('observation', 'pixels', "streams to record: 'pixels' (with cameras) or 'state'"),
              Param('image_codec', codec.DEFAULT, "how images are stored: 'raw', 'png' (lossless) or 'jpeg:QUALITY'"),
              Param('extra_topics', '',
                    "further topics to record, 'name type, name type': 'wide/image sensor_msgs/msg/Image'"),
              Param('episode_lost_s', 3.0, 's without a Step after which the episode node counts as lost'))
    HEARTBEAT_S = 0.1
    PREPARE_S = 40.0    # from the start to the first Step; the episode node gives up long before

    def __init__(self, name: str):
        super().__init__(name)
        if not self.params['run_dir']:
            raise ConfigError('parameter run_dir is not set')
        try:
            transform = codec.encoder(self.params['image_codec'])
        except ValueError as e:
            raise ConfigError(str(e)) from None
        self._told: Status | None = None
        self._told_at = 0.0
        self._reported: Status | None = None
        self._stopping_since: float | None = None
        self._state = self.create_publisher(RecorderState, 'recorder/state', profile('state'))
        topics = {STREAMS[s].topic: (STREAMS[s].msgtype, 'sensor')
                  for s in streams_of(self.params['observation'])} | EVENTS
        topics |= extra_topics(self.params['extra_topics'])
        qos = {}
        self._resolved = {topic: self.resolve_topic_name(topic) for topic in topics}
        for topic, (msgtype, kind) in topics.items():
            p = profile('sensor_whole' if kind in ('sensor', 'extra') else kind, self.lockstep)
            if kind != 'state':
                p.depth = 1000   # all is taken every 20 ms; a busy machine must not cost messages
            resolved = self._resolved[topic]
            offered = 'image_out' if msgtype == codec.IMAGE else 'sensor_out' if kind in ('sensor', 'extra') else kind
            qos[resolved] = TopicQos.of(profile(offered))
            if msgtype == codec.IMAGE:
                qos[codec.compressed_topic(resolved)] = qos[resolved]
            self.quiet.append(self.create_subscription(
                message_class(msgtype), topic, self._callback(topic, resolved, msgtype), p, raw=True))
        sensors = [self._resolved[topic] for topic, (_, kind) in topics.items() if kind == 'sensor']
        episodes = Path(self.params['run_dir']) / 'episodes'
        try:
            # in lockstep nothing is held up by a slow disk; what waits for it is bounded by its size
            stall_s = self.params['lockstep_deadline_s'] if self.lockstep else STALL_S
            self._recorder = EpisodeRecorder(episodes, qos, sensors, stall_s=stall_s, transform=transform)
        except BagError as e:
            raise ConfigError(str(e)) from None
        left = len(list(episodes.glob('.*.partial')))
        if left:
            self.get_logger().warning(f'{left} bags in {episodes} were never sealed: see ./chef bags recover')
        self.every(0.02, self._poll)
        self._tell()

    def _callback(self, topic: str, resolved: str, msgtype: str):
        if topic == 'episode':
            return self._on_episode
        if topic == 'step':
            return self._on_step
        return lambda data: self._recorder.message(resolved, msgtype, bytes(data), self._received_ns())

    def _received_ns(self) -> int | None:
        return None if self.lockstep else self.wall_ns()

    def _on_episode(self, data: bytes) -> None:
        m = deserialize_message(data, EpisodeInfo)
        topic = self._resolved['episode']
        if m.event == EpisodeInfo.START:
            self._recorder.start(m.episode_id)
        self._recorder.message(topic, 'chef_msgs/msg/EpisodeInfo', bytes(data), self._received_ns())
        if m.event == EpisodeInfo.END:
            self._recorder.end(m.episode_id, m.termination_reason)

    def _on_step(self, data: bytes) -> None:
        m = deserialize_message(data, Step)
        self._recorder.message(self._resolved['step'], 'chef_msgs/msg/Step', bytes(data), self._received_ns())
        stamps = {self._resolved[STREAMS[s].topic]: stamp_ns(t) for s, t in zip(m.streams, m.stamps)}
        self._recorder.step(m.last, stamps)

    def _poll(self) -> None:
        r = self._recorder
        r.poll()
        if r.recording:
            wait = max(self.params['episode_lost_s'], 2 * self.params['lockstep_deadline_s'] if self.lockstep
                       else 0.0)
            if not r.started:
                wait = self.PREPARE_S
            if time.monotonic() - r.last_progress > wait:
                self.get_logger().error('the episode node is gone: sealing what there is')
                r.last_progress = time.monotonic()
                r.seal_now(Reason.EPISODE_NODE_LOST.value)
        self._tell()

    def _tell(self) -> None:
        status, now = self._recorder.status, time.monotonic()
        if status.state == RECORDING and not self._recorder.started and (unheard := self._recorder.unheard):
            # its publisher is not met yet, and an episode that began now would name samples that never come here
            status.state, status.error = IDLE, f'nothing has come on {unheard[0]} yet'
        changed = self._told is None or (status.state, status.episode_id) != (
            self._told.state, self._told.episode_id)
        if not changed and now - self._told_at < self.HEARTBEAT_S:
            return
        if changed and status.state in (FAILED, QUARANTINED):
            self.get_logger().error(status.error)
        if changed and status.dropped:
            self.get_logger().warning(f'{status.episode_id}: {status.dropped} samples that Steps name are missing')
        self._told, self._told_at = status, now
        m = RecorderState(state=STATES[status.state], episode_id=status.episode_id, path=status.path,
                          messages=status.messages, bytes=status.bytes, dropped=status.dropped, error=status.error)
        m.header.stamp = to_time(self.wall_ns())
        self._state.publish(m)

    def diagnose(self, report: Report) -> None:
        status, before, self._reported = self._recorder.status, self._reported, self._recorder.status
        same = before is not None and before.episode_id == status.episode_id
        written, size = (status.messages - before.messages, status.bytes - before.bytes) if same else (0, 0)
        report.values |= {
            'state': status.state, 'messages_hz': written / self.DIAGNOSTICS_S,
            'mib_per_s': size / 2**20 / self.DIAGNOSTICS_S, 'dropped': status.dropped,
            'disk_free_gib': free_bytes(Path(self.params['run_dir'])) / 2**30}
        if status.dropped:
            report.warn(f'{status.dropped} samples that Steps name are missing')
        if status.state == FAILED:
            report.error(status.error)
        if report.values['disk_free_gib'] < 2 * MIN_FREE_BYTES / 2**30:
            report.warn('the disk is nearly full')

    def stop(self) -> bool:
        """Waits a little for the episode's end, then seals without it."""
        now = time.monotonic()
        self._stopping_since = self._stopping_since or now
        if self._recorder.recording and now - self._stopping_since < 2.0:
            return False
        if self._recorder.recording:
            self._recorder.seal_now(Reason.SHUTDOWN.value)
        self._recorder.close()
        return True


def main() -> None:
    run(RecorderNode, 'recorder', stop_deadline_s=15.0)
