# SPDX-License-Identifier: Apache-2.0
"""The recorder: raw messages in, one sealed bag an episode out. No ROS.

Disk writes take tens of ms at worst, so a thread does them; what is handed in is queued, never dropped.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
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
    dropped: int = 0        # samples that a Step names and the bag lacks
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
      transform: (topic, type, serialised message) to what is written instead, called by the writer's thread;
        everything else here speaks of topics and messages as they were sent.
    """

    def __init__(self, folder: Path | str, qos: dict[str, TopicQos], sensors: Iterable[str] = (),
                 drain_s: float = 2.0,
                 transform: Callable[[str, str, bytes], tuple[str, str, bytes]] | None = None):
        self._folder, self._qos, self._drain_s = Path(folder), qos, drain_s
        self._transform = transform
        self._queue: deque[tuple | None] = deque()
        self._preroll = {topic: deque(maxlen=_PREROLL) for topic in sensors}
        self._lock = threading.Lock()
        self._status = Status()
        self._ending: _Ending | None = None
        self._newest: dict[str, int] = {}
        self._newest_ns = 0
        self._steps = 0
        self._named: list[dict[str, int]] = []              # topic: stamp, of every Step
        self._stamps: dict[str, set[int]] = {}              # topic: stamps of all messages, of sensors
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
        self._named, self._stamps = [], {}
        self.last_progress = time.monotonic()
        with self._lock:
            self._status = Status(IDLE, episode_id)
        self._queue.append(('open', episode_id))
        kept = [job for jobs in self._preroll.values() for job in jobs]
        for topic, msgtype, data, received_ns in sorted(kept, key=lambda job: job[-1]):
            self._take(topic, msgtype, data, received_ns)

    def message(self, topic: str, msgtype: str, data: bytes, received_ns: int | None = None) -> None:
        """Takes one serialised message; ignored while nothing is recorded.

        received_ns: log time; if not given, the newest stamp of the episode, as simulated time has it.
        """
        if self._status.state in (RECORDING, IDLE) and self._status.episode_id:
            self._take(topic, msgtype, data, received_ns)
        elif topic in self._preroll:
            self._preroll[topic].append((topic, msgtype, data, received_ns or serialized_stamp_ns(data)))

    def _take(self, topic: str, msgtype: str, data: bytes, received_ns: int | None) -> None:
        stamp = serialized_stamp_ns(data)
        self._newest[topic] = stamp
        self._newest_ns = max(self._newest_ns, stamp)
        if topic in self._preroll:
            self._stamps.setdefault(topic, set()).add(stamp)
        self._queue.append(('write', self._status.episode_id, topic, msgtype, data,
                            received_ns or self._newest_ns))

    def step(self, last: bool, stamps: dict[str, int]) -> None:
        """Tells of a Step that was recorded; stamps: topic to the stamp it names."""
        self.last_progress = time.monotonic()
        self._steps += 1
        self._named.append(stamps)
        if last:
            self._last_stamps = stamps

    def end(self, episode_id: str, reason: str) -> None:
        """The episode is over; the bag is sealed once all that its last Step names is in it."""
        if episode_id == self.status.episode_id and self._ending is None:
            self._ending = _Ending(reason, time.monotonic() + self._drain_s)

    def seal_now(self, reason: str) -> None:
        """Seals without waiting for more, or discards what never had a Step; harmless when nothing is recorded."""
        status = self.status
        if status.state not in (RECORDING, IDLE) or not status.episode_id:
            return
        self._ending = None
        missing = sum(stamp not in self._stamps.get(topic, ()) for stamps in self._named
                      for topic, stamp in stamps.items())
        with self._lock:
            self._status.dropped = missing
        self._queue.append(('seal', status.episode_id, reason) if self._steps else
                           ('discard', status.episode_id))

    def poll(self) -> None:
        """Seals when the end is complete; call it some 50 times a second.

        An end without a Step may only be ahead of its Step: that is told by waiting.
        """
        e = self._ending
        if e is None:
            return
        complete = self._last_stamps is not None and all(
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
                writer = self._do(writer, *job)
            except Exception as e:  # whatever it is, the cell must hear of it and the next bag be possible
                if writer is not None:
                    writer.abandon()
                writer = None
                error = str(e) if isinstance(e, BagError) else f'{type(e).__name__}: {e}'
                self._report(job[1], state=FAILED, error=error)
        if writer is not None:
            writer.abandon()

    def _report(self, episode_id: str, **changes) -> None:
        """Changes the status, if it is still about that episode."""
        with self._lock:
            if self._status.episode_id == episode_id:
                for name, value in changes.items():
                    setattr(self._status, name, value)

    def _do(self, writer: BagWriter | None, what: str, episode_id: str, *args) -> BagWriter | None:
        if what == 'open':
            free = free_bytes(self._folder)
            if free < MIN_FREE_BYTES:
                raise BagError(f'{self._folder}: only {free >> 20} MiB free, {MIN_FREE_BYTES >> 20} are needed')
            writer = BagWriter(self._folder, episode_id, qos=self._qos)
            self._report(episode_id, state=RECORDING, path=str(writer.path))
        elif writer is None:
            pass    # it could not be opened, or failed: that has been told
        elif what == 'write':
            *message, log_ns = args
            writer.write(*(self._transform(*message) if self._transform else message), log_ns)
            if episode_id == self._status.episode_id:
                self._status.messages, self._status.bytes = writer.messages, writer.bytes
        elif what == 'seal':
            path = writer.seal(reason=args[0])
            writer = None
            self._report(episode_id, state=SEALED, path=str(path))
        elif what == 'discard':
            writer.abandon()
            shutil.rmtree(writer.partial, ignore_errors=True)
            writer = None
            with self._lock:
                if self._status.episode_id == episode_id:
                    self._status = Status()
        return writer
