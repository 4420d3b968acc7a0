# SPDX-License-Identifier: Apache-2.0
"""Writes one episode to one rosbag2 folder, which has its final name only once it is complete on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mcap.writer
import yaml
from rosbags.rosbag2 import Reader

from chef_task.bag.definitions import definition, find_msg_dir, typestore
from chef_task.bag.errors import BagError
from chef_task.bag.qos import TopicQos
from chef_task.bag.summary import INFO, STEP, WRENCH, Tally, to_custom_data
from chef_task.records import EpisodeRecord

# A killed recorder loses the chunk in progress: this is 1 to 2 camera frames.
CHUNK_BYTES = 64 * 1024


class _Dumper(getattr(yaml, 'CSafeDumper', yaml.SafeDumper)):
    """Writes repeated values out, as rosbag2 does, instead of anchors and aliases."""

    def ignore_aliases(self, data):
        return True


def free_bytes(path: Path | str) -> int:
    """Bytes that may still be written at `path`, which need not exist yet; BagError if it cannot be told."""
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError as e:
        raise BagError(f'{path}: free space unknown: {e.strerror}') from e


@dataclass
class _Topic:
    channel: int
    msgtype: str
    qos: TopicQos
    type_hash: str
    count: int = 0


class BagWriter:
    """One episode's bag: `write` every message, then `seal`, or `abandon` where something is wrong.

    Until sealed the bag is `<folder>/.<episode_id>.partial`, which no reader of episodes looks at. Not
    thread-safe. A call may take tens of ms (disk): never in a control thread.

    Args:
      folder: of the sealed bags; made if missing.
      episode_id: name of the bag.
      qos: topic to the QoS its publisher offered; `TopicQos()` for those not in it.
      msg_dir: folder with chef_msgs' .msg files; found if not given.

    Raises:
      BagError: a bag of that name exists, or it cannot be made.
    """

    def __init__(self, folder: Path | str, episode_id: str, *, qos: Mapping[str, TopicQos] | None = None,
                 msg_dir: Path | str | None = None):
        if not episode_id or episode_id.startswith('.') or '/' in episode_id:
            raise BagError(f'{episode_id!r} cannot name a bag')
        self._msg_dir = Path(msg_dir) if msg_dir else find_msg_dir()
        self._store = typestore(self._msg_dir)
        self.path = Path(folder) / episode_id
        self.partial = Path(folder) / f'.{episode_id}.partial'
        self.tally = Tally()
        self.messages = 0
        self.bytes = 0                                  # of messages, not of the file
        self._qos = dict(qos or {})
        self._topics: dict[str, _Topic] = {}
        self._schemas: dict[str, tuple[int, str]] = {}
        self._first_ns, self._last_ns = 2**63 - 1, 0
        self._file = None
        if self.path.exists():
            raise BagError(f'{self.path} exists already')
        try:
            self.partial.parent.mkdir(parents=True, exist_ok=True)
            self.partial.mkdir()
            self._mcap_path = self.partial / f'{episode_id}_0.mcap'
            self._file = open(self._mcap_path, 'xb')
            self._mcap = mcap.writer.Writer(self._file, CHUNK_BYTES, mcap.writer.CompressionType.NONE)
            self._mcap.start('ros2', 'chef_task')
        except OSError as e:
            self.abandon()
            raise BagError(f'{self.partial}: cannot be made: {e.strerror}') from e

    def add_topic(self, topic: str, msgtype: str, qos: TopicQos | None = None) -> None:
        """Makes a topic known; `write` does so at a topic's first message if this was not called.

        Raises:
          BagError: the type is unknown, or the topic is there with another type.
        """
        known = self._topics.get(topic)
        if known is not None:
            if known.msgtype != msgtype:
                raise BagError(f'{self.path.name}: {topic} is {known.msgtype}, not {msgtype}')
            return
        if msgtype not in self._schemas:
            text, type_hash = definition(msgtype, self._msg_dir)
            self._schemas[msgtype] = (
                self._mcap.register_schema(msgtype, 'ros2msg', text.encode()), type_hash)
        schema, type_hash = self._schemas[msgtype]
        qos = qos or self._qos.get(topic) or TopicQos()
        channel = self._mcap.register_channel(topic, 'cdr', schema, {
            'offered_qos_profiles': yaml.dump([qos.to_dict()], Dumper=_Dumper, sort_keys=False),
            'topic_type_hash': type_hash,
        })
        self._topics[topic] = _Topic(channel, msgtype, qos, type_hash)

    def write(self, topic: str, msgtype: str, data: bytes, log_ns: int,
              publish_ns: int | None = None) -> None:
        """Appends one message.

        Args:
          topic: absolute name, `/cell_1/wrench`.
          msgtype: `geometry_msgs/msg/WrenchStamped`.
          data: serialised, with the 4-byte CDR header, as a raw subscription gives it.
          log_ns: when it was received, ns.
          publish_ns: when it was sent, ns; `log_ns` if not known.

        Raises:
          BagError: the disk refused it (full, gone), the type is unknown, or the bag is closed.
        """
        if self._file is None:
            raise BagError(f'{self.path}: the bag is closed')
        try:
            self.add_topic(topic, msgtype)
            entry = self._topics[topic]
            self._mcap.add_message(entry.channel, log_ns, data, log_ns if publish_ns is None else publish_ns,
                                   entry.count)
        except OSError as e:
            # half a record may be on disk: nothing may follow it
            self.abandon()
            raise BagError(f'{self.partial}: writing failed: {e.strerror}') from e
        entry.count += 1
        self.messages += 1
        self.bytes += len(data)
        self._first_ns, self._last_ns = min(self._first_ns, log_ns), max(self._last_ns, log_ns)
        self._count(msgtype, topic, data)

    def _count(self, msgtype: str, topic: str, data: bytes) -> None:
        take = {INFO: self.tally.info, STEP: self.tally.step, WRENCH: self.tally.wrench}.get(msgtype)
        if take is None:
            return
        try:
            take(self._store.deserialize_cdr(data, msgtype))
        except Exception as e:  # rosbags raises several kinds; the message itself is in the bag
            raise BagError(f'{self.path.name}: {topic}: a {msgtype} that cannot be decoded: {e!r}') from e

    def seal(self, record: EpisodeRecord | None = None, *, reason: str = 'unknown') -> Path:
        """Completes the bag, puts it safely on disk, checks it, and gives it its final name.

        Args:
          record: the episode's summary; if not given, the one that its messages tell.
          reason: why the episode ended, where no END message tells it.

        Returns:
          The path of the sealed bag.

        Raises:
          BagError: not an episode, or the disk refused it; the partial bag stays.
        """
        if self._file is None:
            raise BagError(f'{self.path}: the bag is closed')
        record = record or self.tally.record(reason)
        info = self._bag_information(to_custom_data(record, self.tally.schedule))
        try:
            self._mcap.add_metadata('rosbag2', {
                'serialized_metadata': yaml.dump(info, Dumper=_Dumper, sort_keys=False)})
            self._mcap.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            with open(self.partial / 'metadata.yaml', 'x') as f:
                yaml.dump({'rosbag2_bagfile_information': info}, f, Dumper=_Dumper, sort_keys=False)
                f.flush()
                os.fsync(f.fileno())
            self._verify()
            _fsync_folder(self.partial)
            if self.path.exists():      # rename would silently replace an empty folder
                raise BagError(f'{self.path} exists already')
            os.rename(self.partial, self.path)
            _fsync_folder(self.path.parent)
        except OSError as e:
            self.abandon()
            raise BagError(f'{self.partial}: sealing failed: {e.strerror}') from e
        return self.path

    def _verify(self) -> None:
        try:
            with Reader(self._mcap_path) as reader:
                count = reader.message_count
        except Exception as e:
            raise BagError(f'{self.partial}: cannot be read back: {e}') from e
        if count != self.messages:
            raise BagError(f'{self.partial}: has {count} messages, {self.messages} were written')

    def _bag_information(self, custom_data: dict[str, str]) -> dict:
        start = {'nanoseconds_since_epoch': self._first_ns if self.messages else 0}
        duration = {'nanoseconds': max(0, self._last_ns - self._first_ns)}
        name = self._mcap_path.name
        return {
            'version': 9, 'storage_identifier': 'mcap', 'duration': duration, 'starting_time': start,
            'message_count': self.messages,
            'topics_with_message_count': [{
                'topic_metadata': {
                    'name': topic, 'type': t.msgtype, 'serialization_format': 'cdr',
                    'offered_qos_profiles': [t.qos.to_dict()], 'type_description_hash': t.type_hash},
                'message_count': t.count} for topic, t in self._topics.items()],
            'compression_format': '', 'compression_mode': '', 'relative_file_paths': [name],
            'files': [{'path': name, 'starting_time': start, 'duration': duration,
                       'message_count': self.messages}],
            'custom_data': custom_data, 'ros_distro': 'jazzy',
        }

    def abandon(self) -> None:
        """Closes the file and leaves the partial bag where it is; may be called at any time, and again."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()


def _fsync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
