# SPDX-License-Identifier: Apache-2.0
"""The recorder: raw messages in, one sealed bag an episode out. No ROS.

Nothing is dropped in silence: a disk that does not keep up, or is nearly full, fails the episode while there
may still be room and time to write its end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from chef_control.bag_thread import FAILED, IDLE, QUARANTINED, RECORDING, SEALED, BagThread
from chef_task.bag.disk import FolderLock
from chef_task.bag.qos import TopicQos
from chef_task.messages import serialized_stamp_ns
from chef_task.records import Reason

__all__ = ['FAILED', 'IDLE', 'QUARANTINED', 'RECORDING', 'SEALED', 'STALL_S', 'EpisodeRecorder', 'Status']

BACKLOG_BYTES = 512 << 20     # of messages that may wait for the disk
STALL_S = 0.5                 # how long one may, where time does not wait for us
_PREROLL = 2                  # messages a sensor: one may arrive while the other is being picked


@dataclass
class Status:
    """What the heartbeat tells.

    A failed episode is still written to its end if the disk allows; `path` is then where its bag came to be.
    """

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
      folder: of the sealed bags, into which no other process may record meanwhile.
      qos: topic to the QoS its publishers offer.
      sensors: topics of which the newest messages from before the start are recorded too, since the first
        Step may name them.
      drain_s: how long to wait for messages that the last Step names.
      stall_s: how long a message may wait for the disk before the episode has failed.
      transform: (topic, type, serialised message) to what is written instead, called by the writer's thread;
        everything else here speaks of topics and messages as they were sent.

    Raises:
      BagError: another recorder has the folder, or it cannot be written.
    """

    def __init__(self, folder: Path | str, qos: dict[str, TopicQos], sensors: Iterable[str] = (),
                 drain_s: float = 2.0, stall_s: float = STALL_S,
                 transform: Callable[[str, str, bytes], tuple[str, str, bytes]] | None = None):
        self._drain_s, self._stall_s = drain_s, stall_s
        self._folder_lock = FolderLock(folder)
        self._preroll = {topic: deque(maxlen=_PREROLL) for topic in sensors}
        self._unheard = set(self._preroll)
        self._lock = threading.Lock()            # of the status and of whether an episode is open
        self._status = Status()
        self._open = False                       # messages belong to the episode of the status
        self._ending: _Ending | None = None
        self._newest: dict[str, int] = {}
        self._newest_ns = 0
        self._steps = 0
        self._named: list[dict[str, int]] = []              # topic: stamp, of every Step
        self._stamps: dict[str, set[int]] = {}              # topic: stamps of all messages, of sensors
        self._last_stamps: dict[str, int] | None = None     # topic: stamp that the last Step names
        self.last_progress = time.monotonic()    # of the episode node: START or a Step
        self._bags = BagThread(Path(folder), qos, self._report, transform)

    @property
    def status(self) -> Status:
        with self._lock:
            return Status(**vars(self._status))

    @property
    def started(self) -> bool:
        """Whether the episode that is recorded has had a Step."""
        return self._steps > 0

    @property
    def unheard(self) -> list[str]:
        """Topics of sensors on which nothing has come yet, in order."""
        return sorted(self._unheard)

    @property
    def recording(self) -> bool:
        """Whether messages are taken for an episode."""
        return self._open

    def start(self, episode_id: str) -> None:
        """Opens a bag. One that is open is sealed first as lost: its end never came."""
        self.seal_now(Reason.EPISODE_NODE_LOST.value)
        self._ending, self._last_stamps, self._newest, self._newest_ns = None, None, {}, 0
        self._steps = 0
        self._named, self._stamps = [], {}
        self.last_progress = time.monotonic()
        with self._lock:
            self._status = Status(IDLE, episode_id)
            self._open = True
        self._bags.put('open', episode_id)
        kept = [job for jobs in self._preroll.values() for job in jobs]
        for topic, msgtype, data, received_ns in sorted(kept, key=lambda job: job[-1]):
            self._take(topic, msgtype, data, received_ns)

    def message(self, topic: str, msgtype: str, data: bytes, received_ns: int | None = None) -> None:
        """Takes one serialised message; ignored while nothing is recorded.

        received_ns: log time; if not given, the newest stamp of the episode, as simulated time has it.
        """
        self._unheard.discard(topic)
        if self._open:
            self._take(topic, msgtype, data, received_ns)
        elif topic in self._preroll:
            self._preroll[topic].append((topic, msgtype, data, received_ns or serialized_stamp_ns(data)))

    def _take(self, topic: str, msgtype: str, data: bytes, received_ns: int | None) -> None:
        episode_id = self._status.episode_id
        if self._bags.backlog_bytes > BACKLOG_BYTES:
            self._report(episode_id, state=FAILED, error=f'{BACKLOG_BYTES >> 20} MiB of messages wait for the disk')
            self.seal_now('')       # nothing may follow what is left out
            return
        stamp = serialized_stamp_ns(data)
        self._newest[topic] = stamp
        self._newest_ns = max(self._newest_ns, stamp)
        if topic in self._preroll:
            self._stamps.setdefault(topic, set()).add(stamp)
        self._bags.put('write', episode_id, topic, msgtype, data, received_ns or self._newest_ns)

    def step(self, last: bool, stamps: dict[str, int]) -> None:
        """Tells of a Step that was recorded; stamps: topic to the stamp it names."""
        self.last_progress = time.monotonic()
        self._steps += 1
        self._named.append(stamps)
        if last:
            self._last_stamps = stamps

    def end(self, episode_id: str, reason: str) -> None:
        """The episode is over; the bag is sealed once all that its last Step names is in it."""
        if self._open and episode_id == self._status.episode_id and self._ending is None:
            self._ending = _Ending(reason, time.monotonic() + self._drain_s)

    def seal_now(self, reason: str) -> None:
        """Seals without waiting for more, or discards what never had a Step; harmless when nothing is recorded."""
        missing = sum(stamp not in self._stamps.get(topic, ()) for stamps in self._named
                      for topic, stamp in stamps.items())
        with self._lock:
            if not self._open:
                return
            self._open, self._ending = False, None
            self._status.dropped = missing
            status = Status(**vars(self._status))
        if status.state == FAILED:      # said where no END says more
            reason = f'{Reason.RECORDER_LOST.value}:{status.error}'
        if self._steps:
            self._bags.put('seal', status.episode_id, reason)
        else:
            self._bags.put('discard', status.episode_id)

    def poll(self) -> None:
        """Watches the disk, and seals when the end is complete; call it some 50 times a second.

        An end without a Step may only be ahead of its Step: that is told by waiting.
        """
        if self._open and self._status.state == RECORDING:
            waited = self._bags.waited_s()      # not asked of its thread, which may hang
            if waited > self._stall_s:
                self._report(self._status.episode_id, state=FAILED,
                             error=f'stalled: a message has waited {waited:.1f} s for the disk')
        e = self._ending
        if e is None:
            return
        complete = self._last_stamps is not None and all(
            self._newest.get(topic, -1) >= stamp for topic, stamp in self._last_stamps.items())
        if complete or time.monotonic() > e.deadline:
            self.seal_now(e.reason)

    def close(self, timeout_s: float = 10.0) -> None:
        """Finishes what is queued, stops the thread, and lets others record into the folder."""
        if self._bags.stop(timeout_s):
            self._folder_lock.release()

    def _report(self, episode_id: str, *, over: bool = False, **changes) -> None:
        """Changes the status, if it is still about that episode; what has failed stays so.

        over: nothing more of it can be written.
        """
        with self._lock:
            if self._status.episode_id != episode_id:
                return
            if over:
                self._open = False
            if self._status.state == FAILED:
                changes = {k: v for k, v in changes.items() if k not in ('state', 'error')}
            elif changes.get('state') == IDLE:
                self._status = Status()
                return
            for name, value in changes.items():
                setattr(self._status, name, value)
