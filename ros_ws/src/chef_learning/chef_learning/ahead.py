# SPDX-License-Identifier: Apache-2.0
"""The batches of the next updates, drawn while the learner is at the one before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chef_learning.learner import Learner
from chef_learning.packed import Packed
from chef_learning.prefetch import Prefetcher
from chef_learning.readers import Draw, Readers
from chef_learning.replay import Batch, Replay


class Ahead:
    """Draws in a thread, which uploads as well, or with `replay.readers` in processes.

    Args:
      replay: gives the replay that batches are drawn from; there must be something in it at the first `take`.
      opener: gives it to a process, which only reads it; it must be possible to pickle it.
    """

    def __init__(self, learner: Learner, replay: Callable[[], Replay], draw: Draw, opener: Callable[[], Replay]):
        self._learner, self._replay, self._draw, self._opener = learner, replay, draw, opener
        self._count = learner.config.replay.readers
        self._most = 1 + max(learner.config.prefetch, self._count)
        self._readers: Readers | None = None
        self._thread = None if self._count else Prefetcher(self._fetch)
        self._uploaded: Batch | Packed | None = None

    def take(self) -> Batch | Packed:
        """Of the next update, on the learner's device: a function of seed, update and replay. Those after it are asked for.

        While replay grows, a batch that was drawn ahead does not know the newest episode yet. Errors as of
        `Replay.sample`, `Readers` and `Prefetcher.take`.
        """
        if self._thread is not None:
            while self._thread.pending < self._most:
                self._thread.ask(self._learner.batch_rng(self._thread.pending))
            return self._thread.take()
        if self._readers is None:
            self._readers = Readers(self._opener, self._replay(), self._draw, self._count, self._most)
            self._learner.pin(self._readers.memory)
        if isinstance(self._uploaded, Packed):      # its place is drawn into next
            self._uploaded.ready.synchronize()
        while self._readers.pending < self._most:
            self._readers.ask(self._learner.batch_seed(self._readers.pending), len(self._replay().episodes))
        self._uploaded = self._learner.upload(self._readers.take())
        return self._uploaded

    def settle(self) -> None:
        """Waits for what was asked for, and forgets it: nothing is drawn until the next `take`."""
        if self._thread is not None:
            while self._thread.pending:
                self._thread.take()
        while self._readers is not None and self._readers.pending:
            self._readers.take()

    def close(self) -> None:
        """Ends thread and processes; waits for the thread, at most `prefetch.JOIN_S`."""
        if self._thread is not None:
            self._thread.close()
        if self._readers is not None:
            self._learner.unpin(self._readers.memory)
            self._readers.close()

    def _fetch(self, rng: np.random.Generator) -> Batch | Packed:
        return self._learner.upload(self._draw.sample(self._replay(), rng))
