# SPDX-License-Identifier: Apache-2.0
"""Listens to one device for a while and says what its samples are worth."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from chef_control.doctor.verdict import FAIL, OK, WARN, Verdict
from chef_control.plausible import Plausibility, content
from chef_task.cell import CellConfig
from chef_task.spaces import CAMERAS, STREAMS

# the streams that a device's sample is published as, each with its fields
_PUBLISHED = {'tcp': ('tcp_pose', 'tcp_twist')}
_STREAMS = {'arm': ('joints', 'tcp'), 'gripper': ('gripper',), 'wrench': ('wrench',), 'tracker': ('objects',)}
_RATES = {**dict.fromkeys(CAMERAS, 'render')}
RATE_OK, RATE_LEAST = 0.95, 0.8     # of the rate that the config states
DARK, BRIGHT = 8.0, 247.0           # mean of an image
RESTING_RAD_S = 0.05


def streams_of(role: str, name: str = '') -> tuple[str, ...]:
    """The streams that a device sends."""
    return _STREAMS.get(role, (name,))


@dataclass
class _Heard:
    """What came on one stream; times in s."""

    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    gap_s: float = 0.0      # longest between two stamps
    back: int = 0           # stamps that do not increase
    age_s: float = 0.0      # oldest on arrival
    ahead_s: float = 0.0    # the furthest in the future on arrival
    fault: str = ''         # the first implausible sample
    same_s: float = 0.0     # longest without a change
    content: bytes = b''
    changed_ns: int = 0
    last: dict | None = None


class Ear:
    """Takes the batches of a device.

    Args:
      joint_range: lower and upper joint positions, rad, [7] each.
      now: the system's clock, ns.
    """

    FIRST_NS = 300_000_000      # at the start that do not count: what had gathered while the device was opened

    def __init__(self, cell: CellConfig, role: str, name: str, joint_range, now: Callable[[], int] = time.time_ns):
        self.role, self.name, self.lost = role, name, ''
        self._cell = cell
        self._plausible = Plausibility(cell.limits, joint_range)
        self._heard = {stream: _Heard() for stream in streams_of(role, name)}
        self._strange = ''
        self._now, self._from = now, now() + self.FIRST_NS
        self._lock = threading.Lock()

    def restart(self) -> None:
        """Counts from now on: what came while other devices were still being opened says little."""
        with self._lock:
            self._from = self._now()
            self._heard = {stream: _Heard(last=heard.last) for stream, heard in self._heard.items()}

    def on_batch(self, samples: list[dict]) -> None:
        """For the device; from its thread."""
        now = self._now()
        with self._lock:
            for sample in samples if now >= self._from else ():
                try:
                    self._take(sample, now)
                except (KeyError, TypeError, ValueError, OverflowError) as e:
                    self._strange = self._strange or f'sent what is no sample: {type(e).__name__}: {e}'

    def on_lost(self, text: str) -> None:
        """For the device."""
        self.lost = self.lost or text

    def _take(self, sample: dict, now: int) -> None:
        h, stamp = self._heard[sample['stream']], int(sample['stamp'])
        parts = {}
        for stream in _PUBLISHED.get(sample['stream'], (sample['stream'],)):
            parts[stream] = self._decode(stream, sample)
            h.fault = h.fault or self._plausible.fault(stream, parts[stream])
        same = b''.join(content(part) for part in parts.values())
        if h.count:
            h.gap_s = max(h.gap_s, (stamp - h.last_ns) * 1e-9)
            h.back += stamp <= h.last_ns
        else:
            h.first_ns = stamp
        if same != h.content:
            h.content, h.changed_ns = same, stamp
        h.same_s = max(h.same_s, (stamp - h.changed_ns) * 1e-9)
        h.age_s = max(h.age_s, (now - stamp) * 1e-9)
        h.ahead_s = max(h.ahead_s, (stamp - now) * 1e-9)
        h.count, h.last_ns = h.count + 1, stamp
        h.last = {field: value for part in parts.values() for field, value in part.items()}

    @staticmethod
    def _decode(stream: str, sample: dict) -> dict[str, np.ndarray]:
        """As the episode node will see it; images keep their size."""
        if STREAMS[stream].is_image:
            image = np.asarray(sample['image'])
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise ValueError(f'an image of shape {image.shape}, {image.dtype}')
            return {'image': image}
        return {field: np.asarray(sample[field], float).reshape(shape) for field, shape in STREAMS[stream].fields.items()}

    def newest(self, stream: str) -> dict | None:
        """The last sample's fields; None if there was none."""
        with self._lock:
            return self._heard[stream].last

    def verdicts(self) -> Iterator[Verdict]:
        """One for each stream, and one if the device was lost or sent nonsense."""
        with self._lock:
            what = f'{self.role} {self.name}'.strip()
            if self.lost:
                yield Verdict(FAIL, what, f'was lost: {self.lost}')
            if self._strange:
                yield Verdict(FAIL, what, self._strange)
            for stream, heard in self._heard.items():
                yield self._judge(stream, heard)

    def _judge(self, stream: str, h: _Heard) -> Verdict:
        limits, published = self._cell.limits, _PUBLISHED.get(stream, (stream,))
        wanted = self._cell.rates_hz[_RATES.get(stream, stream)]
        limit = min(limits.sensor_age_s[p] for p in published)
        frozen = min((limits.frozen_s[p] for p in published if limits.frozen_s[p]), default=math.inf)

        def say(level: str, text: str) -> Verdict:
            return Verdict(level, f'stream {stream}', text)

        if h.count < 2:
            return say(FAIL, f'{h.count} samples came' if h.count else 'no sample came')
        rate = (h.count - 1) * 1e9 / max(1, h.last_ns - h.first_ns)
        found = f'{rate:.1f} Hz of {wanted:g}, up to {h.age_s * 1e3:.0f} ms old, gaps up to {h.gap_s * 1e3:.0f} ms'
        if h.back:
            return say(FAIL, f'{h.back} of {h.count} stamps do not increase; {found}')
        if h.fault:
            return say(FAIL, f'{h.fault}; {found}')
        if h.age_s > limit or h.gap_s > limit:
            return say(FAIL, f'{found}; older than {limit * 1e3:.0f} ms (limits.sensor_age_s) would stop the arm')
        if h.ahead_s > limits.clock_tolerance_s:
            return say(FAIL, f'stamps are {h.ahead_s * 1e3:.0f} ms ahead of this machine\'s clock; {found}')
        if h.same_s > frozen:
            return say(FAIL, f'the same content for {h.same_s:.1f} s (limits.frozen_s allows {frozen:g}); {found}')
        if rate < RATE_LEAST * wanted:
            return say(FAIL, f'too slow: {found} (rates_hz)')
        level, remark = self._remark(stream, h.last)
        if level == OK and rate < RATE_OK * wanted:
            level, remark = WARN, 'slower than rates_hz says'
        return say(level, f'{found}; {remark}' if remark else found)

    def _remark(self, stream: str, last: dict) -> tuple[str, str]:
        """What the last sample of a cell at rest says."""
        limits = self._cell.limits
        if stream == 'joints':
            fastest = float(np.abs(last['velocity']).max())
            return (FAIL, f'the arm moves at {fastest:.2f} rad/s though nobody commands it') \
                if fastest > RESTING_RAD_S else (OK, '')
        if stream == 'wrench':
            force = math.hypot(*last['force'])
            text = f'{force:.1f} N at rest, the limit is {limits.force_n:g} N'
            return (FAIL if force >= limits.force_n else WARN if force > limits.force_n / 2 else OK,
                    text + ('; tare the sensor' if force > limits.force_n / 2 else ''))
        if stream in CAMERAS:
            mean = float(last['image'].mean())
            height, width = last['image'].shape[:2]
            text = f'{width} x {height}, mean brightness {mean:.0f} of 255'
            return (WARN if not DARK <= mean <= BRIGHT else OK), text
        return OK, ''
