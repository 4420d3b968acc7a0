# SPDX-License-Identifier: Apache-2.0
"""Batches drawn by processes of their own, beside the learner's, so that neither waits for the other's interpreter.

A process opens the replay to read it, draws whole batches, and leaves them in memory that it shares with the learner.
What a batch holds is a function of its random generator and of the replay, so it is the same whoever draws it.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import DupFd

import numpy as np

from chef_learning.packed import Layout, Place, assemble, parts, room, size
from chef_learning.replay import Batch, Replay, ReplayError

TAKE_S = 300.0      # s; a disk that gives nothing for so long gives nothing more
_END_S = 5.0        # s, for a process to end before it is killed


@dataclass(frozen=True)
class Draw:
    """What batches are like, as for `Replay.sample`. part: of each batch that is wanted, None for all of it."""

    batch_size: int
    n_step: int
    discount: float
    part: slice | None = None

    def sample(self, replay: Replay, rng: np.random.Generator, empty: Callable = np.empty) -> Batch:
        """One batch."""
        batch = replay.sample(rng, self.batch_size, self.n_step, self.discount, empty)
        return batch if self.part is None else batch.of(self.part)


@dataclass(frozen=True)
class Drawn:
    """A batch, and the bytes [n] in which its arrays lie as `layout` says (see `chef_learning.packed`)."""

    batch: Batch
    bytes: np.ndarray
    layout: Layout


class Readers:
    """`count` processes that draw batches in the order in which they are asked for.

    One thread may ask while another takes.

    Args:
      opener: gives the replay, to read; it is called in each process, so it must be possible to pickle it.
      replay: the same one, here.
      ahead: how many batches may be asked for and not taken, at most.

    Attributes:
      memory: where batches lie, one mapping a process.

    Raises:
      ReplayError: there is nothing in the replay yet.
    """

    def __init__(self, opener: Callable[[], Replay], replay: Replay, draw: Draw, count: int, ahead: int):
        one = Draw(1, draw.n_step, draw.discount).sample(replay, np.random.default_rng(0))
        self._room = -(-room(one, draw.batch_size) // mmap.PAGESIZE) * mmap.PAGESIZE
        # of each process: those not taken yet, and the one that was taken last, which the learner looks at
        self._slots = -(-ahead // count) + 1
        self._ahead, self._asked = ahead, 0
        self._pending: deque[tuple[int, int]] = deque()     # process and slot of what was asked for
        self._drawn: dict[tuple[int, int], Drawn] = {}      # what was last in a slot: most often the next is laid out alike
        self._pipes: list[Connection] = []
        self._processes, self.memory = [], []
        context = multiprocessing.get_context('spawn')
        try:
            for number in range(count):
                # anonymous: no name is left behind by a crash, and containers bound /dev/shm only
                fd = os.memfd_create('chef-batches')
                try:
                    os.ftruncate(fd, self._room * self._slots)
                    self.memory.append(mmap.mmap(fd, self._room * self._slots))
                    ours, theirs = context.Pipe()
                    process = context.Process(target=_main, daemon=True, name=f'reader-{number}', args=(
                        theirs, _Share(fd), self._room, self._slots, opener, draw))
                    process.start()
                finally:
                    os.close(fd)
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
        except BaseException:
            self.close()
            raise

    @property
    def pending(self) -> int:
        """How many were asked for and not taken yet."""
        return len(self._pending)

    def ask(self, seed: list[int], episodes: int) -> None:
        """Asks for the batch that a generator of this seed draws from a replay that has at least so many episodes.

        Raises:
          ReplayError: the process that should draw it is gone.
          ValueError: too many were asked for.
        """
        if len(self._pending) >= self._ahead:
            raise ValueError(f'{self._ahead} batches were asked for and not taken')
        process = self._asked % len(self._pipes)
        slot = self._asked // len(self._pipes) % self._slots
        try:
            self._pipes[process].send((seed, slot, episodes))
        except OSError:
            raise ReplayError(self._died(process)) from None
        self._asked += 1
        self._pending.append((process, slot))

    def take(self, timeout_s: float = TAKE_S) -> Drawn:
        """The oldest that was asked for; waits for it. Its arrays are overwritten after the next `take`.

        Raises:
          ReplayError: it could not be drawn, or the process that should is gone.
          TimeoutError: it did not come in time.
          ValueError: nothing was asked for.
        """
        if not self._pending:
            raise ValueError('nothing was asked for')
        process, slot = self._pending.popleft()
        pipe = self._pipes[process]
        if pipe not in (ready := wait([pipe, self._processes[process].sentinel], timeout_s)):
            if ready:
                raise ReplayError(self._died(process))
            raise TimeoutError(f'no batch was drawn within {timeout_s:g} s')
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            raise ReplayError(self._died(process)) from None
        if isinstance(answer, str):
            raise ReplayError(answer)
        if answer is not None:
            self._drawn[process, slot] = self._found(answer, self.memory[process], slot * self._room)
        return self._drawn[process, slot]

    @staticmethod
    def _found(layout: Layout, memory: mmap.mmap, base: int) -> Drawn:
        used = max(offset + size(kind, shape) for offset, kind, shape in layout.values())
        return Drawn(assemble({path: np.ndarray(shape, kind, memory, base + offset)
                               for path, (offset, kind, shape) in layout.items()}),
                     np.ndarray(used, np.uint8, memory, base), layout)

    def _died(self, number: int) -> str:
        process = self._processes[number]
        process.join(_END_S)
        return f'a process that draws batches is gone (process {process.pid}, exit status {process.exitcode})'

    def close(self) -> None:
        """Ends the processes; batches that were taken stay whole as long as somebody holds them."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_END_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes, self._pending = [], [], deque()


class _Share:
    """A file descriptor that goes along to a process that is being started."""

    def __init__(self, fd: int):
        self._fd = fd

    def __reduce__(self):
        return _detach, (DupFd(self._fd),)


def _detach(duplicate) -> int:
    return duplicate.detach()


def _main(pipe: Connection, fd: int, length: int, slots: int, opener: Callable[[], Replay], draw: Draw) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # a Ctrl-C is the learner's, which ends its readers
    memory = mmap.mmap(fd, length * slots)
    os.close(fd)
    replay, told = None, {}
    while True:
        try:
            seed, slot, episodes = pipe.recv()
        except (EOFError, OSError):
            return      # the learner is gone
        try:
            replay = replay or opener()
            if len(replay.episodes) < episodes:
                replay.refresh()
            place = Place(np.frombuffer(memory, np.uint8, length, slot * length))
            answer = place.describe(parts(draw.sample(replay, np.random.default_rng(seed), place.empty)))
            # only what is new is said: where the arrays are hardly ever changes
            told[slot], answer = answer, None if told.get(slot) == answer else answer
        except (ReplayError, OSError) as e:
            answer = str(e)
        try:
            pipe.send(answer)
        except OSError:
            return
