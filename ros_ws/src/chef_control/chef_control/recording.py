# SPDX-License-Identifier: Apache-2.0
"""The recorder: raw messages in, one sealed bag an episode out. No ROS.

Disk writes take tens of ms at worst, so a thread does them; what is handed in is queued, never dropped.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chef_task.bag.errors import BagError
from chef_task.bag.qos import TopicQos
from chef_task.bag.writer import BagWriter, free_bytes
from chef_task.messages import serialized_stamp_ns
from chef_task.records import Reason

MIN_FREE_BYTES = 1 << 30      # an episode with raw images takes about 60 MB
_PREROLL = 2                  # messages a sensor: one may arrive while the other is being picked
_IDLE_S = 0.01                # the writer's nap; waking it for every message costs more than the writing
IDLE, RECORDING, SEALED, FAILED = 'idle', 'recording', 'sealed', 'failed'


@dataclass
class Status:
    """What the heartbeat tells."""

    state: str = IDLE
    episode_id: str = ''
    path: str = ''
    messages: int = 0
    bytes: int = 0
    error: str = ''


@dataclass
class _Ending:
    """An episode's end is known; its last messages may still be on the way."""

    reason: str
    deadline: float


class EpisodeRecorder:
    """Opens a bag on `start`, takes `message`s, seals on `end`; `poll` drives the waits.

    Args:
      folder: of the sealed bags.
      qos: topic to the QoS its publishers offer.
      sensors: topics of which the newest messages from before the start are recorded too, since the first
        Step may name them.
      drain_s: how long to wait for messages that the last Step names.
    """

    def __init__(self, folder: Path | str, qos: dict[str, TopicQos], sensors: Iterable[str] = (),
                 drain_s: float = 2.0):
        self._folder, self._qos, self._drain_s = Path(folder), qos, drain_s
        self._queue: deque[tuple | None] = deque()
        self._preroll = {topic: deque(maxlen=_PREROLL) for topic in sensors}
        self._lock = threading.Lock()
        self._status = Status()
        self._ending: _Ending | None = None
        self._newest: dict[str, int] = {}
        self._newest_ns = 0
        self._steps = 0
        self._last_stamps: dict[str, int] | None = None     # topic: stamp that the last Step names
        self.last_progress = time.monotonic()    # of the episode node: START or a Step
        self._thread = threading.Thread(target=self._write, name='bag writer', daemon=True)
        self._thread.start()

    @property
    def status(self) -> Status:
        with self._lock:
            return Status(**vars(self._status))

    @property
    def started(self) -> bool:
        """Whether the episode that is recorded has had a Step."""
        return self._steps > 0

    @property
    def recording(self) -> bool:
        return self.status.state == RECORDING

    def start(self, episode_id: str) -> None:
        """Opens a bag. One that is open is sealed first as lost: its end never came."""
        if self.recording:
            self.seal_now(Reason.EPISODE_NODE_LOST.value)
        self._ending, self._last_stamps, self._newest, self._newest_ns = None, None, {}, 0
        self._steps = 0
        self.last_progress = time.monotonic()
        with self._lock:
            self._status = Status(IDLE, episode_id)
        self._queue.append(('open', episode_id))
        kept = [job for jobs in self._preroll.values() for job in jobs]
        for job in sorted(kept, key=lambda job: job[-1]):
            self._newest[job[0]] = serialized_stamp_ns(job[2])
            self._queue.append(('write', *job))

    def message(self, topic: str, msgtype: str, data: bytes, received_ns: int | None = None) -> None:
        """Takes one serialised message; ignored while nothing is recorded.

        received_ns: log time; if not given, the newest stamp of the episode, as simulated time has it.
        """
        stamp = serialized_stamp_ns(data)
        if self._status.state not in (RECORDING, IDLE) or not self._status.episode_id:
            if topic in self._preroll:
                self._preroll[topic].append((topic, msgtype, data, received_ns or stamp))
            return
        self._newest[topic] = stamp
        self._newest_ns = max(self._newest_ns, stamp)
        self._queue.append(('write', topic, msgtype, data, received_ns or self._newest_ns))

    def step(self, last: bool, stamps: dict[str, int]) -> None:
        """Tells of a Step that was recorded; stamps: topic to the stamp it names."""
        self.last_progress = time.monotonic()
        self._steps += 1
        if last:
            self._last_stamps = stamps

    def end(self, episode_id: str, reason: str) -> None:
        """The episode is over; the bag is sealed once all that its last Step names is in it."""
        if episode_id == self.status.episode_id and self._ending is None:
            self._ending = _Ending(reason, time.monotonic() + self._drain_s)

    def seal_now(self, reason: str) -> None:
        """Seals without waiting for more, or discards what never had a Step; harmless when nothing is recorded."""
        if self.status.state in (RECORDING, IDLE) and self.status.episode_id:
            self._ending = None
            self._queue.append(('seal', reason) if self._steps else ('discard',))

    def poll(self) -> None:
        """Seals when the end is complete; call it some 50 times a second."""
        e = self._ending
        if e is None:
            return
        complete = self._steps == 0 or self._last_stamps is not None and all(
            self._newest.get(topic, -1) >= stamp for topic, stamp in self._last_stamps.items())
        if complete or time.monotonic() > e.deadline:
            self.seal_now(e.reason)

    def close(self, timeout_s: float = 10.0) -> None:
        """Finishes what is queued and stops the thread."""
        self._queue.append(None)
        self._thread.join(timeout_s)

    # ---- the writer's thread ------------------------------------------------------------------

    def _write(self) -> None:
        writer: BagWriter | None = None
        while True:
            if not self._queue:
                time.sleep(_IDLE_S)
                continue
            job = self._queue.popleft()
            if job is None:
                break
            try:
                writer = self._do(job, writer)
            except BagError as e:
                if writer is not None:
                    writer.abandon()
                writer = None
                with self._lock:
                    self._status.state, self._status.error = FAILED, str(e)
        if writer is not None:
            writer.abandon()

    def _do(self, job: tuple, writer: BagWriter | None) -> BagWriter | None:
        if job[0] == 'open':
            free = free_bytes(self._folder)
            if free < MIN_FREE_BYTES:
                raise BagError(f'{self._folder}: only {free >> 20} MiB free, {MIN_FREE_BYTES >> 20} are needed')
            writer = BagWriter(self._folder, job[1], qos=self._qos)
            with self._lock:
                self._status.state, self._status.path = RECORDING, str(writer.path)
        elif writer is not None and job[0] == 'write':
            writer.write(*job[1:])
            self._status.messages, self._status.bytes = writer.messages, writer.bytes
        elif writer is not None and job[0] == 'seal':
            path = writer.seal(reason=job[1])
            writer = None
            with self._lock:
                self._status.state, self._status.path = SEALED, str(path)
        elif writer is not None and job[0] == 'discard':
            writer.abandon()
            shutil.rmtree(writer.partial, ignore_errors=True)
            writer = None
            with self._lock:
                self._status = Status()
        return writer
