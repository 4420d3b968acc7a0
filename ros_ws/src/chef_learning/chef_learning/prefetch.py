# SPDX-License-Identifier: Apache-2.0
"""Work done ahead in a thread, in the order in which it was asked for: the next batch, while the learner updates."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

JOIN_S = 30.0       # a thread that does not end is left behind
TAKE_S = 300.0      # a disk that gives nothing for so long gives nothing more


class Prefetcher:
    """Calls `draw` in a thread of its own, once for each `ask`, and hands out the results in order.

    What is drawn is a function of what was asked, not of when: a resumed learner that asks for the same gets the
    same. The thread ends with `close`, and does not keep a process alive.

    Args:
      draw: any work; what it raises is raised by the `take` that its result was for.

    Attributes:
      pending: how many were asked for and not taken yet.
    """

    def __init__(self, draw: Callable[[Any], Any]):
        self._draw, self.pending = draw, 0
        self._asked: queue.SimpleQueue = queue.SimpleQueue()
        self._drawn: queue.SimpleQueue = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name='prefetch', daemon=True)
        self._thread.start()

    def ask(self, what: Any) -> None:
        self._asked.put((what,))
        self.pending += 1

    def take(self, timeout_s: float = TAKE_S) -> Any:
        """The oldest that was asked for; waits for it.

        Raises:
          TimeoutError: it did not come in time.
          ValueError: nothing was asked for.
        """
        if not self.pending:
            raise ValueError('nothing was asked for')
        try:
            result, error = self._drawn.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f'no batch was drawn within {timeout_s:g} s') from None
        self.pending -= 1
        if error is not None:
            raise error
        return result

    def close(self, timeout_s: float = JOIN_S) -> bool:
        """Ends the thread after what it is at; whether it ended in time."""
        self._closed.set()
        self._asked.put(())
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            item = self._asked.get()
            if self._closed.is_set():
                return
            try:
                self._drawn.put((self._draw(*item), None))
            except BaseException as e:      # whatever it is, it belongs to whoever waits for the result
                self._drawn.put((None, e))
