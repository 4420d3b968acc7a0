# SPDX-License-Identifier: Apache-2.0
"""The thread that writes bags: a queue of jobs, an eye on free space, and how long messages wait. No ROS."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from chef_task.bag.disk import free_bytes
from chef_task.bag.errors import AuditError, BagError
from chef_task.bag.qos import TopicQos
from chef_task.bag.writer import BagWriter

MIN_FREE_BYTES = 1 << 30      # before an episode; one with raw images takes about 60 MB
RESERVE_BYTES = 256 << 20     # while recording: what is left must hold the episode's end
FLUSH_S = 0.1                 # a message may wait in memory, where a kill would lose it
_SPACE_EVERY_S = 0.5          # how often free space is looked at
_IDLE_S = 0.01                # the nap of an idle thread; waking it for every message costs more than the writing
IDLE, RECORDING, SEALED, FAILED, QUARANTINED = 'idle', 'recording', 'sealed', 'failed', 'quarantined'


class _Job(NamedTuple):
    """What is to be done, and since when (monotonic, s)."""

    queued_at: float
    what: str
    episode_id: str
    args: tuple

    @property
    def bytes(self) -> int:
        return len(self.args[2]) if self.what == 'write' else 0


class BagThread:
    """Does what is `put`, in that order: ('open', id), ('write', id, topic, msgtype, data, log_ns),
    ('seal', id, reason) or ('discard', id).

    Args:
      folder: of the sealed bags.
      qos: topic to the QoS its publishers offer.
      report: called with an episode's id and what has changed, named as the fields of `recording.Status`;
        from the thread. A failure that leaves nothing to write into has `over=True` as well.
      transform: (topic, type, serialised message) to what is written instead; None: all as it is.
    """

    def __init__(self, folder: Path, qos: dict[str, TopicQos], report: Callable[..., None],
                 transform: Callable[[str, str, bytes], tuple[str, str, bytes]] | None = None):
        self._folder, self._qos, self._report = folder, qos, report
        self._transform = transform or (lambda *message: message)
        self._queue: deque[_Job] = deque()
        self._bytes_in = self._bytes_out = 0     # of messages, ever put and ever done with
        self._writer: BagWriter | None = None
        self._opened_at = self._space_at = 0.0
        self._thread = threading.Thread(target=self._run, name='bag writer', daemon=True)
        self._thread.start()

    def put(self, what: str, episode_id: str = '', *args) -> None:
        """Queues a job; never waits."""
        job = _Job(time.monotonic(), what, episode_id, args)
        self._bytes_in += job.bytes
        self._queue.append(job)

    @property
    def backlog_bytes(self) -> int:
        """Of messages that wait for the disk."""
        return self._bytes_in - self._bytes_out

    def waited_s(self) -> float:
        """How long the oldest job that is not done has waited while a bag was open; 0 without one."""
        try:
            return time.monotonic() - max(self._queue[0].queued_at, self._opened_at)
        except IndexError:
            return 0.0

    def stop(self, timeout_s: float) -> bool:
        """Finishes what is queued; whether that came to an end in time."""
        self.put('stop')
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ---- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            job = self._queue[0] if self._queue else None    # it stays there until done, for `waited_s`
            if job is None:
                time.sleep(_IDLE_S)
            elif job.what == 'stop':
                break
            try:
                if job is not None:
                    self._do(job)
                if self._writer is not None:
                    self._writer.flush(FLUSH_S)
            except Exception as e:  # whatever it is, the cell must hear of it and the next bag be possible
                self._give_up(job, e)
            if job is not None:
                self._queue.popleft()
                self._bytes_out += job.bytes
        if self._writer is not None:
            self._writer.abandon()

    def _give_up(self, job: _Job | None, e: Exception) -> None:
        writer, self._writer = self._writer, None
        error = str(e) if isinstance(e, BagError) else f'{type(e).__name__}: {e}'
        changes = dict(state=FAILED, error=error, over=True)
        if writer is not None:
            writer.abandon()
            changes['path'] = str(writer.partial)
        self._report(job.episode_id if job else writer.path.name, **changes)

    def _do(self, job: _Job) -> None:
        episode_id, writer = job.episode_id, self._writer
        if job.what == 'open':
            self._check_space(MIN_FREE_BYTES)
            self._writer = BagWriter(self._folder, episode_id, qos=self._qos)
            self._opened_at = time.monotonic()
            self._report(episode_id, state=RECORDING, path=str(self._writer.path))
        elif writer is None:
            pass    # it could not be opened, or failed: that has been told
        elif job.what == 'write':
            *message, log_ns = job.args
            writer.write(*self._transform(*message), log_ns)
            self._report(episode_id, messages=writer.messages, bytes=writer.bytes)
            if time.monotonic() - self._space_at > _SPACE_EVERY_S:
                try:
                    self._check_space(RESERVE_BYTES)
                except BagError as e:
                    self._report(episode_id, state=FAILED, error=str(e))
        elif job.what == 'seal':
            self._writer = None
            self._seal(writer, *job.args)
        elif job.what == 'discard':
            self._writer = None
            writer.abandon()
            shutil.rmtree(writer.partial, ignore_errors=True)
            self._report(episode_id, state=IDLE, path='')

    def _check_space(self, needed: int) -> None:
        self._space_at = time.monotonic()
        free = free_bytes(self._folder)
        if free < needed:
            raise BagError(f'{self._folder}: only {free >> 20} MiB free, {needed >> 20} are needed')

    def _seal(self, writer: BagWriter, reason: str) -> None:
        episode_id = writer.path.name
        try:
            self._report(episode_id, state=SEALED, path=str(writer.seal(reason=reason)))
        except AuditError as e:
            self._report(episode_id, state=QUARANTINED, path=str(e.path), error=str(e))
        except Exception:
            self._report(episode_id, path=str(writer.partial))
            raise
