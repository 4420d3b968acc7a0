# SPDX-License-Identifier: Apache-2.0
"""One set-up at a time in one checkout."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chef_bringup.setup.progress import SetupError, inherited, say


@contextmanager
def locked(folder: Path, deadline_s: float = 1800.0, poll_s: float = 0.2) -> Iterator[None]:
    """Hold the folder's lock; wait for another holder up to the deadline.

    The lock is on the folder itself, so there is no file to go stale, and the kernel lets go of it when its
    holders die: this process and the set-up commands that it started.

    Raises:
        SetupError: the deadline passed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + deadline_s
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    say("another chef is setting up this checkout; waiting for it")
                    told = True
                if time.monotonic() >= end:
                    raise SetupError(f"another chef still sets up {folder} after {deadline_s:.0f} s") from None
                time.sleep(poll_s)
        inherited.append(descriptor)
        try:
            yield
        finally:
            inherited.remove(descriptor)
    finally:
        os.close(descriptor)
