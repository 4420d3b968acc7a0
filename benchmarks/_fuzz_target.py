# SPDX-License-Identifier: Apache-2.0
"""What a target of `fuzz.py` is, and the verdict on one input."""

from __future__ import annotations

import random
import resource
import signal
from pathlib import Path

CPU_LIMIT_S = 5.0               # of one input; processor time, so that a busy machine is not taken for a hang
WALL_LIMIT_S = 30.0             # of one input, which may wait for something
MEMORY_LIMIT = 512 << 20        # bytes that one input may take beyond what the worker has
_LONGEST = 1000                 # characters of a clear error
_TIMERS = ((signal.SIGPROF, signal.ITIMER_PROF, CPU_LIMIT_S), (signal.SIGALRM, signal.ITIMER_REAL, WALL_LIMIT_S))


class Failure(Exception):
    """An input was neither accepted nor refused as promised; the text says how."""


class Hang(BaseException):
    """Too much processor time; no `except Exception` may take it for damaged data."""


class Target:
    """One loader. Made once per worker in a folder of its own; then `make` and `load` in turns.

    Attributes:
      errors: what refusing an input may raise.
      named: what the error's text must hold, usually a file's name.
    """

    errors: tuple[type[Exception], ...] = ()
    named = ''

    def __init__(self, folder: Path):
        self.folder = folder

    def make(self, rng: random.Random) -> None:
        """Makes the input: a valid one of our own writers, mutated."""
        raise NotImplementedError

    def load(self) -> None:
        """Reads all that a program would read of it; raises one of `errors` to refuse it."""
        raise NotImplementedError


def limit_memory() -> None:
    """From now on this process may take `MEMORY_LIMIT` more than it has."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _hang(number, frame):
    raise Hang


def attempt(target: Target, name: str, number: int) -> bool:
    """Whether input `number` of a target was accepted; else it was refused as promised.

    Raises:
      Failure: neither.
    """
    target.make(random.Random(f'{name} {number}'))
    for signum, timer, limit in _TIMERS:
        signal.signal(signum, _hang)
        signal.setitimer(timer, limit)
    try:
        target.load()
        return True
    except target.errors as e:
        _check(e, target.named)
        return False
    except Hang as e:
        raise Failure(f'more than {CPU_LIMIT_S:g} s of processor time, or {WALL_LIMIT_S:g} s in all') from e
    except BaseException as e:
        raise Failure(f'{type(e).__name__}: {e}'[:300]) from e
    finally:
        for _, timer, _ in _TIMERS:
            signal.setitimer(timer, 0.0)


def _check(error: Exception, named: str) -> None:
    """The promise about an error: one line, that says where, and no memory blow-up behind it."""
    text = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise Failure(f'took more than {MEMORY_LIMIT >> 20} MiB, then: {text[:200]}') from error
        cause = cause.__cause__ or cause.__context__
    if not text.strip() or '\n' in text or '\r' in text:
        raise Failure(f'not one line: {text[:200]!r}') from error
    if len(text) > _LONGEST:
        raise Failure(f'an error of {len(text)} characters: {text[:100]!r}') from error
    if named not in text:
        raise Failure(f'does not name {named}: {text[:200]!r}') from error
