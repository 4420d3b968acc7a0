# SPDX-License-Identifier: Apache-2.0
"""What a node knows of its own health: rates, ages, counts, and whether all that is well. No ROS.

Between two reports events are only counted, which costs less than a microsecond each; rates and text are made
once a second, when `report` is called.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

OK, WARN, ERROR = 0, 1, 2     # as in diagnostic_msgs/DiagnosticStatus
LEVELS = ('OK', 'WARN', 'ERROR')


class Meter:
    """Counts events of one kind. silent_s: s without an event after which the node warns; None: never."""

    __slots__ = ('count', 'at', 'silent_s', 'reported')

    def __init__(self, silent_s: float | None, now: float):
        self.count = self.reported = 0
        self.at = now
        self.silent_s = silent_s

    def tick(self) -> None:
        """One event, now."""
        self.count += 1
        self.at = time.monotonic()


@dataclass
class Report:
    """One status: the level is that of the worst problem, the message names them all."""

    level: int = OK
    problems: list[str] = field(default_factory=list)
    values: dict[str, str | int | float] = field(default_factory=dict)

    def warn(self, problem: str) -> None:
        self._add(WARN, problem)

    def error(self, problem: str) -> None:
        self._add(ERROR, problem)

    def _add(self, level: int, problem: str) -> None:
        self.level = max(self.level, level)
        self.problems.append(problem)

    @property
    def message(self) -> str:
        return '; '.join(self.problems) or 'OK'

    def text_values(self) -> dict[str, str]:
        """All values as text; numbers with four digits."""
        return {k: f'{v:.4g}' if isinstance(v, float) else str(v) for k, v in self.values.items()}


class Health:
    """A node's meters and counters. Meters may be ticked from any one thread each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._meters: dict[str, Meter] = {}
        self._counts: dict[str, int] = {}
        self._last = clock()

    def meter(self, name: str, silent_s: float | None = None) -> Meter:
        """The meter of that name, reported as `<name>_hz` and `<name>_age_s`."""
        if name not in self._meters:
            self._meters[name] = Meter(silent_s, self._clock())
        return self._meters[name]

    def add(self, name: str, n: int = 1) -> None:
        """Counts what should be rare: overruns, drops, refusals."""
        self._counts[name] = self._counts.get(name, 0) + n

    def forget(self) -> None:
        """Drops all meters; counts stay."""
        self._meters.clear()

    def report(self) -> Report:
        """Rates since the last report, ages, counts since the start, and the process's memory and open files."""
        now = self._clock()
        since, self._last = max(now - self._last, 1e-6), now
        report = Report()
        for name, meter in list(self._meters.items()):
            count, age = meter.count, max(0.0, now - meter.at)
            report.values[f'{name}_hz'] = round((count - meter.reported) / since, 1)
            report.values[f'{name}_age_s'] = round(age, 3)
            meter.reported = count
            if meter.silent_s is not None and age > meter.silent_s:
                report.warn(f'no {name} for {age:.1f} s' if count else f'no {name} yet')
        report.values.update(self._counts)
        report.values.update(process_values())
        return report


def process_values() -> dict[str, float | int]:
    """Resident memory, MiB, and open files of this process: what leaks shows here first."""
    with open('/proc/self/statm') as f:
        pages = int(f.read().split()[1])
    return {'rss_mib': round(pages * os.sysconf('SC_PAGE_SIZE') / 2**20, 1),
            'open_files': len(os.listdir('/proc/self/fd'))}
