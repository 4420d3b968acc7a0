# SPDX-License-Identifier: Apache-2.0
"""Writes one episode to one rosbag2 folder, which has its final name only once it is proven complete on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import mcap.writer

from chef_task.bag.audit import FILE as AUDIT_FILE
from chef_task.bag.audit import audit
from chef_task.bag.definitions import definition, find_msg_dir, typestore, typestore_of
from chef_task.bag.disk import fsync_folder, lock_writing, make_folder, write_new
from chef_task.bag.errors import AuditError, BagError
from chef_task.bag.files import QUARANTINE, REASONS_FILE
from chef_task.bag.metadata import WrittenTopic, dump, information
from chef_task.bag.qos import TopicQos
from chef_task.bag.summary import INFO, STEP, WRENCH, Tally, to_custom_data
from chef_task.records import EpisodeRecord

# A killed recorder loses the chunk in progress: this is 1 to 2 camera frames. See `flush` for slow traffic.
CHUNK_BYTES = 64 * 1024


class BagWriter:
    """One episode's bag: `write` every message, then `seal`, or `abandon` where something is wrong.

    Until sealed the bag is `<folder>/.<episode_id>.partial`, which no reader of episodes looks at, and which
    is locked for as long as this process writes it. Not thread-safe. A call may take tens of ms (disk), or
    hang with the disk: never in a control thread.

    Args:
      folder: of the sealed bags; made if missing.
      episode_id: name of the bag.
      qos: topic to the QoS its publisher offered; `TopicQos()` for those not in it.
      msg_dir: folder with chef_msgs' .msg files; found if not given.
      definitions: message type to (definition text, type hash), where messages are of another bag; those of
        `msg_dir` and the standard ones if not given.
      partial: name of the folder until it is sealed, if not the above.

    Raises:
      BagError: a bag of that name exists, or it cannot be made.
    """

    def __init__(self, folder: Path | str, episode_id: str, *, qos: Mapping[str, TopicQos] | None = None,
                 msg_dir: Path | str | None = None, definitions: Mapping[str, tuple[str, str]] | None = None,
                 partial: str = ''):
        if not episode_id or episode_id.startswith('.') or '/' in episode_id:
            raise BagError(f'{episode_id!r} cannot name a bag')
        if definitions is None:
            msg_dir = Path(msg_dir) if msg_dir else find_msg_dir()
            self._store = typestore(msg_dir)
            self._definition = lambda msgtype: definition(msgtype, msg_dir)
        else:
            self._store = typestore_of(tuple(sorted((name, text) for name, (text, _) in definitions.items())))
            self._definition = definitions.__getitem__
        self.path = Path(folder) / episode_id
        self.partial = Path(folder) / (partial or f'.{episode_id}.partial')
        self.tally = Tally()
        self.messages = 0
        self.bytes = 0                                  # of messages, not of the file
        self._qos = dict(qos or {})
        self._topics: dict[str, WrittenTopic] = {}
        self._schemas: dict[str, tuple[int, str]] = {}
        self._first_ns, self._last_ns = 2**63 - 1, 0
        self._waiting_since: float | None = None        # monotonic time of the oldest message not in the file
        self._file = None
        self._lock = -1
        if self.path.exists():
            raise BagError(f'{self.path} exists already')
        try:
            make_folder(self.partial.parent)
            self.partial.mkdir()
            self._mcap_path = self.partial / f'{episode_id}_0.mcap'
            self._file = open(self._mcap_path, 'xb')
            self._lock = os.dup(self._file.fileno())    # so that it lasts until the bag has its name
            if not lock_writing(self._lock):
                raise BagError(f'{self.partial}: is written by somebody else')
            self._mcap = mcap.writer.Writer(self._file, CHUNK_BYTES, mcap.writer.CompressionType.NONE,
                                            enable_data_crcs=True)
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
            text, type_hash = self._definition(msgtype)
            self._schemas[msgtype] = (
                self._mcap.register_schema(msgtype, 'ros2msg', text.encode()), type_hash)
        schema, type_hash = self._schemas[msgtype]
        qos = qos or self._qos.get(topic) or TopicQos()
        channel = self._mcap.register_channel(topic, 'cdr', schema, {
            'offered_qos_profiles': dump([qos.to_dict()]),
            'topic_type_hash': type_hash,
        })
        self._topics[topic] = WrittenTopic(channel, msgtype, qos, type_hash)

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
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
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

    def flush(self, age_s: float = 0.0) -> None:
        """Hands to the system what has waited in memory for `age_s` or longer, so that a kill does not lose it.

        A chunk of slow traffic takes seconds to fill. This is no fsync: a power cut may lose it still.

        Raises:
          BagError: as `write`.
        """
        if self._file is None or self._waiting_since is None or time.monotonic() - self._waiting_since < age_s:
            return
        try:
            self._mcap.flush()
        except OSError as e:
            self.abandon()
            raise BagError(f'{self.partial}: writing failed: {e.strerror}') from e
        self._waiting_since = None

    def seal(self, record: EpisodeRecord | None = None, *, reason: str = 'unknown', quarantine: bool = True) -> Path:
        """Completes the bag, puts it safely on disk, audits what is there, and gives it its final name.

        Args:
          record: the episode's summary; if not given, the one that its messages tell.
          reason: why the episode ended, where no END message tells it.
          quarantine: whether a bag with faults goes to `quarantine/` beside the sealed ones, with the reasons;
            else it stays partial.

        Returns:
          The path of the sealed bag.

        Raises:
          AuditError: the audit found faults.
          BagError: not an episode, or the disk refused it; the partial bag stays.
        """
        if self._file is None:
            raise BagError(f'{self.path}: the bag is closed')
        record = record or self.tally.record(reason)
        try:
            self._finish(to_custom_data(record, self.tally.schedule))
            found = audit(self.partial, {topic: t.count for topic, t in self._topics.items()})
            if found.faults and not quarantine:
                raise AuditError(self.partial, found.faults)
            write_new(self.partial / (REASONS_FILE if found.faults else AUDIT_FILE),
                      found.to_json(episode_id=record.episode_id))
            fsync_folder(self.partial)
            target = self.path.parent / QUARANTINE / self.path.name if found.faults else self.path
            make_folder(target.parent)
            if target.exists():      # rename would silently replace an empty folder
                raise BagError(f'{target} exists already')
            os.rename(self.partial, target)
            fsync_folder(target.parent)
            if found.faults:
                fsync_folder(self.partial.parent)
                raise AuditError(target, found.faults)
        except OSError as e:
            raise BagError(f'{self.partial}: sealing failed: {e.strerror}') from e
        finally:
            self.abandon()
        return target

    def _finish(self, custom_data: dict[str, str]) -> None:
        """Closes the file with its index, writes metadata.yaml, and syncs both."""
        info = information(self._mcap_path.name, self._topics, self._first_ns, self._last_ns, custom_data)
        self._mcap.add_metadata('rosbag2', {'serialized_metadata': dump(info)})
        self._mcap.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        # what the audit reads shall come from the disk, not from the memory that was written to it
        os.posix_fadvise(self._lock, 0, 0, os.POSIX_FADV_DONTNEED)
        write_new(self.partial / 'metadata.yaml', dump({'rosbag2_bagfile_information': info}))

    def abandon(self) -> None:
        """Closes the file and leaves the partial bag where it is; may be called at any time, and again."""
        file, self._file, lock, self._lock = self._file, None, self._lock, -1
        if file is not None:
            with suppress(OSError):
                file.close()
        if lock >= 0:
            os.close(lock)
