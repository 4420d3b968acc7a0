# SPDX-License-Identifier: Apache-2.0
"""What came of one fault, and whether it was as promised; see docs/safety.md."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

import witness
from cell import Cell
from kind import EITHER, EPISODE, GRAPH, NOTHING, Kind
from offline import LOST_S

from chef_task.bag.errors import BagError
from chef_task.bag.files import quick_summary

STOP_NS = 100_000_000       # from detection to rest, at most
SLICE_NS = 10_000_000       # the device looks at its commands once a slice
UNWRITTEN_NS = 3_000_000_000    # from a recorder's failure to the end that is told, with nothing left to write to
PAUSE_NS = 800_000_000      # the collection rests for a second after a failure, before the next reset


class TooLate(Exception):
    """The episode had ended by itself before the fault: there was nothing that it could have disturbed."""


@dataclass
class Verdict:
    """What came of one fault. Times in ms, `lost_s` in s; None: does not apply."""

    kind: str
    seed: int
    reason: str = ''
    detection_ms: float | None = None       # from the fault to the first who acted on it
    stop_ms: float | None = None            # from then to the arm's rest
    total_ms: float | None = None           # from the fault to the arm's rest
    lost_s: float | None = None             # of the running episode
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems


def judge(cell: Cell, kind: Kind, verdict: Verdict, episode: str, fault: int, done: int, told: int) -> None:
    """What the witnesses say of one fault.

    Args:
      episode: that ran. fault, done: begin and end of the injection. told: when the collection, or whoever started
        it, knew of the end. All in ns of the wall clock.

    Raises:
      TooLate: nothing was judged.
    """
    record, place = cell.record_of(episode)
    if kind.ends == EPISODE and record.reason.startswith('time_limit') and record.end_stamp <= fault:
        raise TooLate
    detected = record.detected_after(fault, kind.recorder_late)
    if kind.ends == GRAPH:      # whoever started the graph sees the death at once
        detected = detected or fault
    reason = record.reason
    if not reason and place is not None:
        try:
            reason = quick_summary(place).termination_reason
        except BagError:
            reason = record.stops[0][1] if record.stops else ''
    if not reason and not kind.sealed and kind.ends == EPISODE:     # nothing more could be written
        reason, detected = cell.told, told
    verdict.reason = reason
    ended = not reason.startswith('time_limit')
    problems = verdict.problems
    if place is None:
        problems.append(f'nothing was recorded of {episode}')
        return
    if kind.ends == EPISODE and not kind.sealed and told - fault > UNWRITTEN_NS:
        problems.append(f'it was told only {(told - fault) * 1e-6:.0f} ms after the fault')
    if kind.sealed and place.name.startswith('.'):
        problems.append('its bag was not sealed')
    if kind.ends == NOTHING and ended:
        problems.append(f'ended the episode: {reason}')
    if kind.ends == EPISODE and not (detected and ended):
        moved = record.tool_moved_m(fault)
        if not moved < kind.unseen_m:
            problems.append(f'nobody noticed; the episode ended with {reason!r} after {moved * 1e3:.0f} mm')
    if ended and (reason or kind.sealed) and kind.ends in (EPISODE, GRAPH, EITHER) \
            and not any(re.match(rf'(?:{r})\b', reason) for r in kind.reasons):
        problems.append(f'the reason is {reason!r}, not one of {", ".join(kind.reasons)}')
    if kind.ends != GRAPH and ended and not reason.startswith('force_limit'):
        told += PAUSE_NS        # nothing may move in it either
        time.sleep(max(0.0, (told - time.time_ns()) * 1e-9))
    if ended and detected:
        verdict.detection_ms = (detected - fault) * 1e-6
        if kind.name != 'kill:world':   # with the hardware goes the witness, and the arm
            _judge_stop(cell, kind, verdict, record, fault, max(detected, done if kind.resumes else 0), told)
    judge_loss(kind, verdict, record, detected if detected and kind.sealed else fault)


def _judge_stop(cell: Cell, kind: Kind, verdict: Verdict, record: witness.Record, fault: int, detected: int,
                told: int) -> None:
    motion = cell.motion()
    rest = motion.stopped_after(detected)
    if rest is None:
        verdict.problems.append('the arm has not stopped')
        return
    verdict.stop_ms = max(0, rest - detected) * 1e-6
    verdict.total_ms = max(0, motion.rest_since(rest) - fault) * 1e-6
    if rest - detected > STOP_NS + SLICE_NS:
        verdict.problems.append(f'the arm stopped {verdict.stop_ms:.0f} ms after the detection')
    if moved := motion.started_within(rest, told):
        verdict.problems.append(f'the arm moved again {(moved[0] - rest) * 1e-6:.0f} ms after its stop')
    if not kind.recorder_late and record.moved_after(detected + STOP_NS):
        verdict.problems.append('the arm was commanded to move after the stop')


def judge_loss(kind: Kind, verdict: Verdict, record: witness.Record, detected: int) -> None:
    """Whether more of the running episode is lost than promised; detected: when it had ended, ns."""
    tail = 0 if record.ended else max(0, detected - record.logged)
    verdict.lost_s = max(tail * 1e-9, record.longest_gap_s(kind.blind))
    if verdict.lost_s > LOST_S:
        verdict.problems.append(f'{verdict.lost_s:.2f} s of the episode are lost')
    for stream, topic in (('joints', 'joint_states'), ('wrench', 'wrench')):
        missing = record.named.get(stream, set()) - set(record.stamps.get(topic, ()))
        if record.ended and missing:
            verdict.problems.append(f'{len(missing)} samples of {stream} that Steps name are missing')
