# SPDX-License-Identifier: Apache-2.0
"""What a report tells of all the episodes under a folder, from their summaries alone; `report_page` draws it."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chef_task.bag.commands.text import time_text
from chef_task.bag.either import find_either, read_either
from chef_task.bag.errors import BagError
from chef_task.errors import OneLineError
from chef_task.limits import Limits
from chef_task.records import Reason
from chef_task.spaces import CONTROL_PERIOD_NS

QUARANTINE = 'quarantine'
_REASONS = 'reasons.json'


@dataclass(frozen=True)
class Row:
    """One episode: what its summary says, checked, and its bytes on disk."""

    path: Path
    episode_id: str
    time: str
    triplet: int
    policy: str
    steps: int
    reason: str
    success: bool
    peak_n: float
    limit_n: float
    returns: dict[str, float]
    bytes: int

    @property
    def early(self) -> bool:
        """Whether something other than the clock ended it."""
        return self.reason.split(':', 1)[0] != Reason.TIME_LIMIT.value


@dataclass
class Report:
    """Everything found under a folder.

    rows: sound episodes in order of time. unreadable: (path, why). quarantined: (id, reasons, bytes).
    partial: bags that were not sealed, with their bytes. tasks: of all episodes, in their order.
    """

    folder: Path
    rows: list[Row] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    quarantined: list[tuple[str, list[str], int]] = field(default_factory=list)
    partial: list[tuple[Path, int]] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for r in self.rows for task in r.returns))

    @property
    def steps(self) -> int:
        return sum(r.steps for r in self.rows)

    @property
    def hours(self) -> float:
        """Of robot time."""
        return self.steps * CONTROL_PERIOD_NS / 3.6e12

    @property
    def bytes(self) -> int:
        """Of sound episodes."""
        return sum(r.bytes for r in self.rows)

    def groups(self, key: Callable[[Row], Hashable]) -> dict:
        """The rows by a key, keys in the order of their first row."""
        out: dict = {}
        for row in self.rows:
            out.setdefault(key(row), []).append(row)
        return out

    def reasons(self) -> list[tuple[str, int]]:
        """(reason, its detail included; episodes), the most frequent first."""
        return Counter(r.reason for r in self.rows).most_common()


def gather(folder: Path | str) -> Report:
    """Reads the summaries of everything under a folder; what cannot be read is in the report too.

    Raises:
      BagError: no such folder.
    """
    report = Report(Path(folder))
    for path in find_either(folder):
        try:
            report.rows.append(_row(path))
        except OneLineError as e:
            report.unreadable.append((path, str(e)))
    report.rows.sort(key=lambda r: (r.episode_id, r.path))
    for place, folders, _ in os.walk(folder):
        folders.sort()
        if Path(place).name == QUARANTINE:
            report.quarantined += [_quarantined(Path(place) / f) for f in folders if not f.startswith('.')]
            folders.clear()
        report.partial += [(Path(place) / f, size_of(Path(place) / f)) for f in folders
                           if f.startswith('.') and f.endswith('.partial')]
        folders[:] = [f for f in folders if not f.startswith('.')]
    return report


def _row(path: Path) -> Row:
    r = read_either(path)
    try:
        limits = r.metadata.get('limits')
        limit_n = limits.get('force_n') if isinstance(limits, dict) else None
        returns = {str(task): float(value) for task, value in zip(r.tasks, r.returns)}
        row = Row(path, r.episode_id, time_text(r), int(r.triplet), r.policy_version or '-', int(r.steps),
                  r.termination_reason, bool(r.success), float(r.peak_force_n),
                  float(limit_n) if isinstance(limit_n, (int, float)) else Limits().force_n, returns, size_of(path))
    except (TypeError, ValueError, OverflowError, AttributeError) as e:
        raise BagError(f'{path}: its summary is damaged: {e}') from e
    if not all(map(math.isfinite, (row.peak_n, row.limit_n, *returns.values()))):
        raise BagError(f'{path}: its summary holds a figure that is not finite')
    return row


def _quarantined(path: Path) -> tuple[str, list[str], int]:
    """Whatever the folder's reasons.json tells, which may be nothing."""
    try:
        told = json.loads((path / _REASONS).read_text('utf8'))
        reasons = told.get('reasons', told.get('faults'))
        reasons = [str(r) for r in reasons] if isinstance(reasons, list) else [str(reasons)]
        name = str(told.get('episode_id') or path.name)
    except FileNotFoundError:
        name, reasons = path.name, [f'has no {_REASONS}']
    except (OSError, ValueError, AttributeError, RecursionError) as e:
        name, reasons = path.name, [f'{_REASONS} cannot be read: {e}']
    return name, reasons, size_of(path)


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files right in a folder; those that vanish meanwhile count nothing."""
    try:
        if path.is_file():
            return path.stat().st_size
        with os.scandir(path) as entries:
            return sum(e.stat(follow_symlinks=False).st_size for e in entries if e.is_file(follow_symlinks=False))
    except OSError:
        return 0


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson), which small numbers do not fool; (0, 1) for none."""
    if n == 0:
        return 0.0, 1.0
    z, rate = 1.96, successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def rolling(values: Iterable[float], window: int) -> list[float]:
    """The mean of the last `window` values at every place, of fewer at the beginning."""
    out, total, past = [], 0.0, list(values)
    for i, value in enumerate(past):
        total += value - (past[i - window] if i >= window else 0.0)
        out.append(total / min(i + 1, window))
    return out
