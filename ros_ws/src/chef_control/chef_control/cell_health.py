# SPDX-License-Identifier: Apache-2.0
"""The health of a whole cell in one line, from the diagnostics of its nodes. No ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chef_control.health import ERROR, LEVELS, OK

# Values that the line shows, by the name under which a node reports them.
TICKS, WRENCH, FORCE_PEAK, DISK, POLICY = 'tick_hz', 'wrench_hz', 'force_peak_n', 'disk_free_gib', 'policy_version'


@dataclass
class _Heard:
    level: int
    message: str
    values: Mapping[str, str]
    at: float


class CellHealth:
    """Keeps each node's newest status. silent_s: s after which a node that was heard before counts as silent."""

    def __init__(self, silent_s: float = 5.0):
        self._silent_s = silent_s
        self._heard: dict[str, _Heard] = {}

    def update(self, node: str, level: int, message: str, values: Mapping[str, str], now_s: float) -> None:
        """One status of one node; now_s: of a monotonic clock."""
        self._heard[node] = _Heard(min(max(level, OK), ERROR), message, values, now_s)

    def problems(self, now_s: float) -> list[tuple[int, str]]:
        """Level and text of whatever is not well, the worst first."""
        found = []
        for node, h in self._heard.items():
            age = now_s - h.at
            if age > self._silent_s:
                found.append((ERROR, f'{node}: no diagnostics for {age:.0f} s'))
            elif h.level != OK:
                found.append((h.level, f'{node}: {h.message}'))
        return sorted(found, key=lambda p: -p[0])

    def line(self, now_s: float) -> tuple[int, str]:
        """The level, and `health OK: 14 nodes, 20.0 Hz, cameras 20/20/20 Hz, F/T 100 Hz, force peak 3.2 N, ...`."""
        problems = self.problems(now_s)
        level = problems[0][0] if problems else OK
        parts = [text for _, text in problems] + [f'{len(self._heard)} nodes'] + self._figures()
        return level, f'health {LEVELS[level]}: {", ".join(parts)}'

    def _figures(self) -> list[str]:
        """What is known of the figures one looks at first; those of a cell that rests are left out."""
        values: dict[str, str] = {}
        for h in self._heard.values():
            values.update(h.values)
        images = [h.values['image_hz'] for _, h in sorted(self._heard.items()) if 'image_hz' in h.values]
        parts = []
        if _number(values.get(TICKS)) > 0:
            parts.append(f'{_number(values[TICKS]):.1f} Hz')
        if images:
            parts.append(f'cameras {"/".join(f"{_number(v):.0f}" for v in images)} Hz')
        if WRENCH in values:
            parts.append(f'F/T {_number(values[WRENCH]):.0f} Hz')
        if FORCE_PEAK in values:
            parts.append(f'force peak {_number(values[FORCE_PEAK]):.1f} N')
        if DISK in values:
            parts.append(f'disk {_number(values[DISK]):.0f} GiB')
        if values.get(POLICY):
            parts.append(f'policy {values[POLICY]}')
        return parts


def _number(text: str | None) -> float:
    """0 for what is no number: a diagnostic may come from anybody."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
