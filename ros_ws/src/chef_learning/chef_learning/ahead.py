# SPDX-License-Identifier: Apache-2.0
"""The batches of the next updates, drawn and uploaded while the learner is at the one before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chef_learning.learner import Learner
from chef_learning.prefetch import Prefetcher
from chef_learning.readers import Draw, Readers
from chef_learning.replay import Batch, Replay


class Ahead:
    """Draws in a thread, or with `replay.readers` in processes from which the thread uploads.

    Args:
      replay: gives the replay that batches are drawn from; there must be something in it at the first `take`.
      opener: gives it to a process, which only reads it; it must be possible to pickle it.
    """

    def __init__(self, learner: Learner, replay: Callable[[], Replay], draw: Draw, opener: Callable[[], Replay]):
        self._learner, self._replay, self._draw, self._opener = learner, replay, draw, opener
        self._count = learner.config.replay.readers
        self._most = 1 + max(learner.config.prefetch, self._count)
        self._readers: Readers | None = None
        self._thread = Prefetcher(self._fetch)

    def take(self) -> Batch:
        """Of the next update, a function of seed, update and replay; those after it are asked for.

        While replay grows, a batch that was drawn ahead does not know the newest episode yet. Errors as of
        `Replay.sample`, `Readers` and `Prefetcher.take`.
        """
        if self._count and self._readers is None:
            self._readers = Readers(self._opener, self._replay(), self._draw, self._count, self._most)
            self._learner.pin(self._readers.memory)
        while self._thread.pending < self._most:
            rng = self._learner.batch_rng(self._thread.pending)
            if self._readers is not None:
                self._readers.ask(rng, len(self._replay().episodes))
            self._thread.ask(rng)
        return self._thread.take()

    def settle(self) -> None:
        """Waits for what was asked for, and forgets it: nothing is drawn until the next `take`."""
        while self._thread.pending:
            self._thread.take()

    def close(self) -> None:
        """Ends thread and processes; waits for the thread, at most `prefetch.JOIN_S`."""
        self._thread.close()
        if self._readers is not None:
            self._learner.unpin(self._readers.memory)
            self._readers.close()

    def _fetch(self, rng: np.random.Generator) -> Batch:
        if self._readers is None:
            return self._learner.upload(self._draw.sample(self._replay(), rng))
        return self._learner.upload(*self._readers.take())
