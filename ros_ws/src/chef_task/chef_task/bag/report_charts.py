# SPDX-License-Identifier: Apache-2.0
"""Charts of the report as inline SVG: lines, a histogram, bars. Colours are the page's CSS variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

MOST_POINTS = 80        # of a line: thousands of episodes must not make a page of megabytes
COLOURS = 7             # --c0 to --c6 in the page's style
_LEAST = 1e-9           # between the ends of an axis: below it are rounding and subnormal numbers, that have no logarithm
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 10, 8, 22


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from low to high, some `count` of them; low alone where they are not apart."""
    if not high - low > _LEAST:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


class _Frame:
    """Axes: scales, grid and labels."""

    def __init__(self, width: int, height: int, x: tuple[float, float], y: tuple[float, float]):
        self.width, self.height, self._x, self._y = width, height, x, y
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        low, high = self._x
        return round(_LEFT + (value - low) / ((high - low) or 1) * (self.width - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self._y
        return round(self.height - _BOTTOM - (value - low) / ((high - low) or 1) * (self.height - _TOP - _BOTTOM), 1)

    def grid(self, percent: bool) -> None:
        for value in ticks(*self._y):
            y, text = self.y(value), f'{value:.0%}' if percent else f'{value:g}'
            self.parts.append(f'<line class="g" x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{y}" y2="{y}"/>'
                              f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{text}</text>')

    def below(self, value: float, text: str, anchor: str = 'middle') -> None:
        self.parts.append(f'<text x="{self.x(value)}" y="{self.height - 6}" text-anchor="{anchor}">'
                          f'{escape(text)}</text>')

    def done(self, label: str) -> str:
        return (f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">'
                f'{"".join(self.parts)}</svg>')


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` of the points, evenly, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def lines(series: Sequence[tuple[int, Sequence[tuple[float, float]]]], x: tuple[float, float], label: str, *,
          x_text: tuple[str, str], percent: bool = False, top: float | None = None,
          width: int = 380, height: int = 190) -> str:
    """A chart of lines.

    Args:
      series: (number of the colour, [(x, y), ...] with ascending x) a line.
      x: range. x_text: below its two ends.
      top: of the y axis, which starts at 0 or below; that of the data if not given.
    """
    values = [v for _, points in series for _, v in points]
    high = top if top is not None else max(values, default=0.0)
    high = high if high > 0.0 else 1.0
    frame = _Frame(width, height, x, (min([0.0, *values]), high))
    frame.grid(percent)
    for colour, points in series:
        style = f'style="--c:var(--c{colour % COLOURS})"'
        places = [(frame.x(a), frame.y(b)) for a, b in thinned(points)]
        if len(places) > 1:
            frame.parts.append(f'<polyline {style} points="{" ".join(f"{a},{b}" for a, b in places)}"/>')
        if len(places) <= 30:
            frame.parts += [f'<circle {style} cx="{a}" cy="{b}" r="2.5"/>' for a, b in places]
    for value, text, anchor in zip(x, x_text, ('start', 'end')):
        frame.below(value, text, anchor)
    return frame.done(label)


def histogram(values: Sequence[float], label: str, *, mark: float, mark_text: str, unit: str, bins: int = 30,
              width: int = 560, height: int = 200) -> str:
    """How often values from 0 up fall into equal bins, and a line at `mark`."""
    high = max([*values, mark]) * 1.08 or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(max(int(value / high * bins), 0), bins - 1)] += 1
    frame = _Frame(width, height, (0.0, high), (0.0, max([*counts, 1]) * 1.15))
    frame.grid(False)
    for i, count in enumerate(counts):
        if count:
            a, b, y = frame.x(i * high / bins), frame.x((i + 1) * high / bins), frame.y(count)
            frame.parts.append(f'<rect x="{a + 0.5}" y="{y}" width="{b - a - 1:.1f}" height="{frame.y(0) - y:.1f}">'
                               f'<title>{count} at {i * high / bins:.1f} to {(i + 1) * high / bins:.1f} {unit}</title>'
                               '</rect>')
    x = frame.x(mark)
    frame.parts.append(f'<line class="m" x1="{x}" x2="{x}" y1="{_TOP}" y2="{frame.y(0)}"/>'
                       f'<text class="m" x="{x - 5}" y="{_TOP + 9}" text-anchor="end">{escape(mark_text)}</text>')
    for value in ticks(0.0, high, 6):
        frame.below(value, f'{value:g}')
    return frame.done(label)
