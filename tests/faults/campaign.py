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
from dataclasses import dataclass
from pathlib import Path

import witness
from cell import Cell
from kind import GRAPH, NOTHING, Kind
from kinds import KINDS
from verdict import TooLate, Verdict, judge

TRIES = 3       # to put a fault into an episode before that ends by itself, on a machine that stands still at times
TOGETHER = 2    # faults between two whole episodes: a collection gives up after three failures in a row


@dataclass(frozen=True)
class Job:
    """One fault to be: everything random in it comes from `seed`."""

    kind: Kind
    seed: int


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
        first, done, open_ = queue[0], [], []
        try:
            with Cell(run, first.kind.profile, first.seed, first.kind.small_disk) as cell:
                cursor = 0
                while queue and cell.alive and not any(v.problems for v in done):
                    job = queue.pop(0)
                    verdict = Verdict(job.kind.name, job.seed)
                    done.append(verdict)
                    cursor = self._one(cell, job, verdict, cursor)
                    open_.append((job, verdict))
                    unharmed = verdict.reason.startswith('time_limit') and verdict.passed
                    soon = bool(queue) and queue[0].kind.ends == NOTHING
                    if unharmed or not queue or verdict.problems or queue[0].kind.ends == GRAPH or \
                            (cell.failures >= TOGETHER and not soon):
                        cursor = self._confirm(cell, open_, cursor, wait=not unharmed)
                        open_ = []
                        for settled in done[:-1]:   # the end of the graph may add to the last
                            self._told(settled)
            done[-1].problems += [f'left running: {line[:100]}' for line in cell.left.values()]
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

    def _one(self, cell: Cell, job: Job, verdict: Verdict, cursor: int, tries: int = TRIES) -> int:
        """Injects one fault and judges it; the line from which on the next episode is to be looked for."""
        kind, rng = job.kind, random.Random(f'{job.kind.name}/{job.seed}')
        episode = cell.wait_until_moving(cursor)
        cell.remember_bags()
        time.sleep(rng.uniform(0.05, 0.8))
        position = cell.position
        cell.problems, cell.lost_s = [], None
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
        verdict.lost_s = cell.lost_s
        try:
            if not kind.waits:
                judge(cell, kind, verdict, episode, fault, max(fault, done), told)
        except TooLate:
            if tries > 1:
                return self._one(cell, job, verdict, cell.position, tries - 1)
            verdict.problems.append(f'{TRIES} episodes ended before the fault came')
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
