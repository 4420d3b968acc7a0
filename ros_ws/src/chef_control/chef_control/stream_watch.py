# SPDX-License-Identifier: Apache-2.0
"""Whether the sensors can be believed: silent, late, frozen, absurd, or with a clock that jumps. No ROS.

Every sample is looked at for its stamp and its arrival, which costs next to nothing; what is in it only at a
tick, which names one sample a stream. All that is found is told as the reason that ends an episode.

Frozen content is told in two ways, since a device that repeats itself and a scene in which nothing happens look
alike. Real sensors have noise, so bits that repeat for `Limits.frozen_s` come from something that hangs; the
simulated cameras render a still scene to the very same pixels, so a cell may switch that off by stream. And
whatever the cell: a camera's frames may not stay the same while the tool moves by `Limits.frozen_motion_m` where
every camera sees it. Elsewhere a frame that repeats may well be right; as soon as it must be wrong, it is told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chef_control.plausible import Plausibility, content
from chef_task import geometry
from chef_task.limits import Limits
from chef_task.messages import Sample
from chef_task.observation import PINCH_FROM_TCP
from chef_task.records import Reason
from chef_task.spaces import CONTROL_PERIOD_NS, STREAMS

SECOND = 1_000_000_000


@dataclass
class _Seen:
    """One stream. stamp, sample, arrival: of the newest; arrival on the monotonic clock. All times ns."""

    stamp: int
    sample: Sample
    arrival: int
    checked: Sample | None = None               # the sample that `fault` is about
    fault: str = ''
    sound: tuple[int, Sample] | None = None     # the newest that was checked and found good
    back: bool = False          # the newest stamp is before the one before it
    content: bytes = b''
    content_since: int = 0      # stamp of the first sample with this content
    pinch: np.ndarray | None = None             # where it was when first in the cameras' view after that, m, [3]


class StreamWatch:
    """Hand in every sample with `on_sample`; ask `fault` at every tick.

    Args:
      streams: names, of chef_task.spaces.STREAMS.
      lockstep: stamps are of simulated time, which waits for the samples: ages and the wall clock do not count.
      joint_range: lower and upper positions of the joints, rad, [7] each; not checked if not given.

    Attributes:
      latched: what was found between ticks, as a reason, or ''; `fault` tells it too.
    """

    def __init__(self, streams: tuple[str, ...], limits: Limits, lockstep: bool, joint_range=None):
        self._streams, self._limits, self._lockstep = streams, limits, lockstep
        self._cameras = any(STREAMS[s].is_image for s in streams)
        self._plausible = Plausibility(limits, joint_range)
        self._tolerance = int(limits.clock_tolerance_s * SECOND)
        self._now = 0       # at the last `fault`
        centre, half = np.array(limits.camera_view_centre_m), np.array(limits.camera_view_size_m) / 2
        self._view = centre - half, centre + half
        self._pinch: np.ndarray | None = None   # where it is, while the cameras see it, m, [3]
        self._seen: dict[str, _Seen] = {}
        self.restart()

    def restart(self) -> None:
        """Forgets what was found and what content is compared with, not the newest samples."""
        self.latched = ''
        self._offset: int | None = None      # of the wall clock from the monotonic one, ns
        for s in self._seen.values():
            s.content, s.checked, s.sound = b'', None, None

    # ---- samples ------------------------------------------------------------------------------

    def on_sample(self, stream: str, stamp: int, sample: Sample, mono: int) -> None:
        """A sample as it arrives; stamp: of capture, ns; mono: monotonic clock, ns."""
        seen = self._seen.get(stream)
        if seen is None:
            self._seen[stream] = _Seen(stamp, sample, mono)
            return
        seen.back = stamp < seen.stamp
        if seen.back:
            self.latch(Reason.CLOCK_JUMP, f'{stream} stamps went back by {_ms(seen.stamp - stamp)}')
        seen.stamp, seen.sample, seen.arrival = stamp, sample, mono

    def latch(self, reason: Reason, detail: str) -> None:
        """Something was found between ticks; the first stays until `restart`."""
        self.latched = self.latched or f'{reason.value}:{detail}'

    def absent(self) -> list[str]:
        """Streams of which no sample has come yet."""
        return [s for s in self._streams if s not in self._seen]

    def stamp(self, stream: str) -> int:
        """Of the newest sample, ns."""
        return self._seen[stream].stamp

    def newest(self) -> dict[str, tuple[int, Sample]]:
        """Stream to stamp and sample."""
        return {s: (self._seen[s].stamp, self._seen[s].sample) for s in self._streams}

    def sound(self) -> dict[str, tuple[int, Sample]]:
        """As `newest`, but where that one is bad, or stamped by another clock, the last good one if there is one."""
        for s in self._streams:
            self._bad(s)
        return {s: seen.sound or (seen.stamp, seen.sample) for s, seen in self._seen.items() if s in self._streams}

    # ---- faults -------------------------------------------------------------------------------

    def steady(self, now: int, mono: int) -> int:
        """`now`, or what it would be if the wall clock had not jumped since the last call; the jump is latched.

        Args:
          now: of the clock that stamps samples, ns. mono: monotonic clock, ns, read at the same time.
        """
        before, self._offset = self._offset, now - mono
        jump = 0 if before is None else self._offset - before
        if self._lockstep or abs(jump) <= self._tolerance:
            return now
        # That stamps went back or are ahead may be told already, but it only follows from this.
        self.latched = ''
        self.latch(Reason.CLOCK_JUMP, f'the wall clock went {"on" if jump > 0 else "back"} by {_ms(abs(jump))}')
        return mono + before

    def fault(self, now: int, mono: int) -> str:
        """The first thing that is wrong, as an episode's reason, or ''; every stream must have a sample.

        Args:
          now: of the clock that stamps samples, in real time as `steady` has it, ns. mono: monotonic clock, ns.
        """
        self._now = now
        found = self.latched or ('' if self._lockstep else self._ahead(now) or self._age(now, mono))
        # All of them at every tick, as they compare with the one before.
        bad = [self._bad(s) for s in self._streams]
        self._look()
        frozen = [self._frozen(s) for s in self._streams]
        return next(filter(None, (found, *bad, *frozen)), '')

    def _ahead(self, now: int) -> str:
        for s in self._streams:
            ahead = self._seen[s].stamp - now
            if ahead > self._tolerance:
                return f'{Reason.CLOCK_JUMP.value}:{s} stamps are {_ms(ahead)} ahead of the clock'
        return ''

    def _age(self, now: int, mono: int) -> str:
        for s in self._streams:
            limit = self._limits.sensor_age_s[s] * SECOND
            silent = mono - self._seen[s].arrival
            if silent > limit:
                return f'{Reason.STALE_SENSOR.value}:{s} silent for {_ms(silent)}'
            if now - self._seen[s].stamp > limit:
                return f'{Reason.STALE_SENSOR.value}:{s} stamps are {_ms(now - self._seen[s].stamp)} old'
        return ''

    def _bad(self, stream: str) -> str:
        seen = self._seen[stream]
        if seen.checked is not seen.sample:
            seen.checked, seen.fault = seen.sample, self._plausible.fault(stream, seen.sample)
            # between ticks `now` is some periods old
            ahead = not self._lockstep and seen.stamp - self._now > self._tolerance + 2 * CONTROL_PERIOD_NS
            if not seen.fault and not seen.back and not ahead:
                seen.sound = seen.stamp, seen.sample
        return seen.fault

    def _frozen(self, stream: str) -> str:
        seen, limit = self._seen[stream], self._limits.frozen_s[stream] * SECOND
        if not (limit or STREAMS[stream].is_image) or seen.fault:
            return ''
        now_says = content(seen.sample)
        if now_says != seen.content:
            seen.content, seen.content_since, seen.pinch = now_says, seen.stamp, None
        since = seen.stamp - seen.content_since
        if limit and since > limit:
            return f'{Reason.STALE_SENSOR.value}:{stream} is frozen: the same content for {_ms(since)}'
        if STREAMS[stream].is_image and self._pinch is not None:
            if seen.pinch is None:
                seen.pinch = self._pinch
            moved = float(np.linalg.norm(self._pinch - seen.pinch))
            if moved > self._limits.frozen_motion_m:
                return (f'{Reason.STALE_SENSOR.value}:{stream} is frozen: the same frame while the tool moved by '
                        f'{moved * 1e3:.0f} mm')
        return ''

    def _look(self) -> None:
        """Finds out where the tool is, for `_frozen`, if there is a camera that may see it."""
        self._pinch = None
        tcp = self._seen['tcp_pose']
        if self._cameras and not tcp.fault:
            pinch = geometry.compose(tcp.sample['pose'], PINCH_FROM_TCP)[:3]
            if (pinch >= self._view[0]).all() and (pinch <= self._view[1]).all():
                self._pinch = pinch

    # ---- figures ------------------------------------------------------------------------------

    def figures(self, now: int) -> dict[str, float]:
        """For diagnostics: age_ms.<stream>, of the newest sample's capture stamp."""
        return {f'age_ms.{s}': (now - seen.stamp) * 1e-6 for s, seen in self._seen.items()}


def _ms(ns: int) -> str:
    return f'{ns * 1e-6:.0f} ms'
