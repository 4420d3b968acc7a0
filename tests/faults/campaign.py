# SPDX-License-Identifier: Apache-2.0
"""Puts faults into running graphs, one at a time, and judges each by what the witnesses say."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import witness
from cell import Cell
from kinds import EITHER, EPISODE, GRAPH, KINDS, NOTHING, Kind
from offline import LOST_S

from chef_task.bag.errors import BagError
from chef_task.bag.files import quick_summary

STOP_NS = 100_000_000       # from detection to rest, at most
SLICE_NS = 10_000_000       # the device looks at its commands once a slice
UNLATCHED_NS = 150_000_000  # from the last command that arrived to rest: its age limit, one period on the way to it
PAUSE_NS = 800_000_000      # the collection rests for a second after a failure, before the next reset
TOGETHER = 2                # faults between two whole episodes: a collection gives up after three failures in a row


@dataclass(frozen=True)
class Job:
    """One fault to be: everything random in it comes from `seed`."""

    kind: Kind
    seed: int


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


def plan(count: int, seed: int, names: Iterable[str] = tuple(KINDS)) -> list[Job]:
    """`count` jobs: every kind once, in random order, then all again with other seeds, as often as needed."""
    names, rng, jobs = list(names), random.Random(seed), []
    while len(jobs) < count:
        rng.shuffle(names)
        jobs += [Job(KINDS[name], seed + len(jobs) // len(names)) for name in names]
    return jobs[:count]


def batches(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs that share one graph each: those of a profile that it survives, spread over those that end it."""
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.kind.profile, job.kind.small_disk), []).append(job)
    out = []
    for group in groups.values():
        ending = [job for job in group if job.kind.ends == GRAPH]
        surviving = [job for job in group if job.kind.ends != GRAPH]
        lots = max(1, len(ending))
        for k in range(lots):
            out.append(_arranged(surviving[k::lots]) + ending[k:k + 1])
    return out


def _arranged(jobs: list[Job]) -> list[Job]:
    """Faults that end episodes in pairs, one that leaves its episode whole after each, as far as they go."""
    whole = [job for job in jobs if job.kind.ends == NOTHING]
    ending = [job for job in jobs if job.kind.ends != NOTHING]
    out = []
    while ending or whole:
        out += ending[:TOGETHER] + whole[:1]
        del ending[:TOGETHER], whole[:1]
    return out


class Campaign:
    """Runs jobs in `folder`, which keeps the runs of faults that failed; `tell` gets each verdict as it is made."""

    def __init__(self, folder: Path, tell: Callable[[Verdict], None] = lambda verdict: None):
        self._folder, self._tell = folder, tell
        self._runs = 0
        self._known: list[Verdict] = []

    def run(self, jobs: Iterable[Job]) -> list[Verdict]:
        verdicts = []
        for batch in batches(jobs):
            queue = list(batch)
            while queue:    # a fault that the graph does not survive as it should leaves the rest for another one
                verdicts += self._run_graph(queue)
        return verdicts

    def _run_graph(self, queue: list[Job]) -> list[Verdict]:
        """Takes jobs from the queue, one at least, for as long as the graph runs."""
        self._runs += 1
        run = self._folder / f'run_{self._runs:03d}'
        first, done, open_, failures = queue[0], [], [], 0
        try:
            with Cell(run, first.kind.profile, first.seed, first.kind.small_disk) as cell:
                cursor = 0
                while queue and cell.alive and not any(v.problems for v in done):
                    job = queue.pop(0)
                    verdict = Verdict(job.kind.name, job.seed)
                    done.append(verdict)
                    cursor = self._one(cell, job, verdict, cursor)
                    open_.append((job, verdict))
                    # The collection gives up after three failures in a row, and a cell that goes on shows it.
                    unharmed = verdict.reason.startswith('time_limit') and verdict.passed
                    failures = 0 if unharmed else failures + 1
                    soon = bool(queue) and queue[0].kind.ends == NOTHING
                    if unharmed or not queue or verdict.problems or queue[0].kind.ends == GRAPH or \
                            (failures >= TOGETHER and not soon):
                        cursor = self._confirm(cell, open_, cursor, wait=not unharmed)
                        open_, failures = [], 0
                        for settled in done[:-1]:   # the end of the graph may add to the last
                            self._told(settled)
            for verdict in done[-1:]:
                verdict.problems += [f'left running: {line[:100]}' for line in witness.left_over(cell.mark).values()]
        except (AssertionError, OSError, subprocess.SubprocessError) as e:
            if not done:
                job = queue.pop(0)
                done.append(Verdict(job.kind.name, job.seed))
            done[-1].problems.append(_shortened(str(e)) or type(e).__name__)
        for verdict in done:
            self._told(verdict)
        if all(v.passed for v in done):
            shutil.rmtree(run, ignore_errors=True)
        return done

    def _told(self, verdict: Verdict) -> None:
        """Once each."""
        if not any(verdict is v for v in self._known):
            self._known.append(verdict)
            self._tell(verdict)

    def _one(self, cell: Cell, job: Job, verdict: Verdict, cursor: int) -> int:
        """Injects one fault and judges it; the line from which on the next episode is to be looked for."""
        kind, rng = job.kind, random.Random(f'{job.kind.name}/{job.seed}')
        episode = cell.wait_until_moving(cursor)
        cell.remember_bags()
        time.sleep(rng.uniform(0.05, 0.8))
        position = cell.position
        cell.problems = []
        cell.fault_ns = fault = kind.inject(cell, rng)
        done = time.time_ns()
        if kind.waits:
            position = cell.position
        if kind.ends == GRAPH:
            self._ended(cell, kind, verdict)
            told = time.time_ns()
        else:
            told = cell.wait_for_outcome(position)
        if kind.undo is not None:
            kind.undo(cell)
        verdict.problems += cell.problems
        if not kind.waits:
            judge(cell, kind, verdict, episode, fault, max(fault, done), told)
        return cell.position

    @staticmethod
    def _ended(cell: Cell, kind: Kind, verdict: Verdict) -> None:
        code = cell.graph.wait(45.0)
        if code == 0:
            verdict.problems.append('the graph ended with 0')
        left = witness.left_over(cell.mark, 20.0)
        verdict.problems += [f'left running: {line[:100]}' for line in left.values()]

    @staticmethod
    def _confirm(cell: Cell, jobs: list[tuple[Job, Verdict]], cursor: int, wait: bool) -> int:
        """After the faults: the cell goes on, if it was to, and everything that was there before is still so.

        wait: for a whole episode; else the last fault has left one.
        """
        problems = []
        if cell.alive and jobs[-1][0].kind.ends != GRAPH:
            try:
                if wait:
                    cell.wait_until_completed(cursor)
            except AssertionError:
                problems.append('no whole episode followed: ' + ' / '.join(cell.graph.lines[-4:]))
        elif any(job.kind.ends != GRAPH for job, _ in jobs):
            problems.append('the graph ended: ' + ' / '.join(cell.graph.lines[-4:]))
        problems += [f'an earlier bag has changed: {name}' for name in cell.changed_bags()]
        for job, verdict in jobs:
            verdict.problems += problems
            if job.kind.line and not re.search(job.kind.line, cell.graph.text):
                verdict.problems.append(f'no line tells of it: {job.kind.line}')
            if job.kind.check is not None:
                verdict.problems += job.kind.check(cell)
        return cell.position


def judge(cell: Cell, kind: Kind, verdict: Verdict, episode: str, fault: int, done: int, told: int) -> None:
    """What the witnesses say of one fault.

    Args:
      episode: that ran. fault, done: begin and end of the injection. told: when the collection, or whoever started
        it, knew of the end. All in ns of the wall clock.
    """
    record, place = cell.record_of(episode)
    detected = record.detected_after(fault, kind.recorder_late)
    if kind.ends == GRAPH:      # whoever started the graph sees the death at once
        detected = detected or fault
    reason = record.reason
    if not reason and place is not None:
        try:
            reason = quick_summary(place).termination_reason
        except BagError:
            reason = record.stops[0][1] if record.stops else ''
    verdict.reason = reason
    ended = not reason.startswith('time_limit')
    problems = verdict.problems
    if place is None:
        problems.append(f'nothing was recorded of {episode}')
        return
    if kind.sealed and place.name.startswith('.'):
        problems.append('its bag was not sealed')
    if kind.ends == NOTHING and ended:
        problems.append(f'ended the episode: {reason}')
    if kind.ends == EPISODE and not detected:
        problems.append(f'nobody noticed; the episode ended with {reason!r}')
    if ended and kind.ends in (EPISODE, GRAPH, EITHER) and kind.sealed \
            and not any(re.match(rf'(?:{r})\b', reason) for r in kind.reasons):
        problems.append(f'the reason is {reason!r}, not one of {", ".join(kind.reasons)}')
    if kind.ends != GRAPH and ended and not reason.startswith('force_limit'):
        told += PAUSE_NS        # nothing may move in it either
        time.sleep(max(0.0, (told - time.time_ns()) * 1e-9))
    if ended and detected:
        verdict.detection_ms = (detected - fault) * 1e-6
        if kind.name != 'kill:world':   # with the hardware goes the witness, and the arm
            _judge_stop(cell, kind, verdict, record, fault, max(detected, done if kind.resumes else 0), told)
    elif not kind.latched:
        motion = cell.motion()
        rest = motion.stopped_after(fault)
        verdict.total_ms = None if rest is None else (rest - fault) * 1e-6
        if rest is None or rest - fault > UNLATCHED_NS:
            problems.append(f'the arm went on for {verdict.total_ms} ms without commands')
    _judge_loss(kind, verdict, record, detected or fault)


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
    if kind.latched:
        if moved := motion.started_within(rest, told):
            verdict.problems.append(f'the arm moved again {(moved[0] - rest) * 1e-6:.0f} ms after its stop')
        if not kind.recorder_late and record.moved_after(detected + STOP_NS):
            verdict.problems.append('the arm was commanded to move after the stop')


def _judge_loss(kind: Kind, verdict: Verdict, record: witness.Record, detected: int) -> None:
    tail = 0 if record.ended else max(0, detected - record.logged)
    verdict.lost_s = max(tail * 1e-9, record.longest_gap_s(kind.blind))
    if verdict.lost_s > LOST_S:
        verdict.problems.append(f'{verdict.lost_s:.2f} s of the episode are lost')
    for stream, topic in (('joints', 'joint_states'), ('wrench', 'wrench')):
        missing = record.named.get(stream, set()) - set(record.stamps.get(topic, ()))
        if record.ended and missing:
            verdict.problems.append(f'{len(missing)} samples of {stream} that Steps name are missing')


def _shortened(text: str) -> str:
    """The first line of an error, and the last ones of the output behind it."""
    lines = text.splitlines()
    return text if len(lines) < 8 else ' / '.join([lines[0], *lines[-6:]])


def may_mount() -> bool:
    """Whether a disk can be made full here: that needs a mount, and so root, and in a container some luck."""
    if os.geteuid() != 0 or shutil.which('mount') is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        mounted = subprocess.run(['mount', '-t', 'tmpfs', 'chef-campaign', folder], **quiet).returncode == 0
        if mounted:
            subprocess.run(['umount', folder], **quiet)
    return mounted
