# SPDX-License-Identifier: Apache-2.0
"""What an experiment asks this cell for next, as node `storage` keeps it in the run's `order.json` (`chef_task.orders`)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chef_control.trial_list import append_done, read_done
from chef_task.orders import COLLECT, CONTESTANTS, EXECUTE, FILE, KINDS


@dataclass(frozen=True)
class Task:
    """One episode to run.

    policy: '' for what the cell was started with. task: whose policy acts, '' with it. seed: of the scene, None for any.
    steps: 0 for as many as the cell was started with. triplet: 0 for any. about: goes into the bag. number, plan: of a trial.
    """

    policy: str = ''
    task: str = ''
    seed: int | None = None
    steps: int = 0
    triplet: int = 0
    about: str = ''
    number: int = -1
    plan: str = ''


class Orders:
    """Read between two episodes.

    Args:
      run_dir: of the run.
      wait_s: s from now in which an order is expected that the storage still gave after this object was made; then an older
        one counts, and without any the cell collects: a storage that is away holds nobody up.
    """

    def __init__(self, run_dir: Path, wait_s: float):
        self._run_dir, self._path = run_dir, run_dir / FILE
        self._begun, self._until = time.time(), time.monotonic() + wait_s
        self._known: dict[str, Any] = {}
        self._done: tuple[str, dict[int, str]] = '', {}
        self.why = ''       # the cell rests, where it does

    def next(self) -> Task | None:
        """What to run now; None while there is nothing, see `why`."""
        if not self._read():
            if time.monotonic() < self._until:
                self.why = 'waits for what the storage says'
                return None
            return Task()
        known = self._known
        asked = {'stage': known['stage']} if known['stage'] else {}
        common = {'steps': known['steps'], 'triplet': known['triplet']}
        if known['kind'] == COLLECT:
            return Task(about=json.dumps(asked) if asked else '', **common)
        if known['kind'] == EXECUTE:
            ran = self._ran(known['plan'])
            for t in known['trials']:
                if t['number'] not in ran:
                    about = {**asked, 'plan': known['plan'], 'trial': t['number'], 'candidate': t['candidate']}
                    return Task(t['policy'], known['task'], t['seed'], about=json.dumps(about), number=t['number'],
                                plan=known['plan'], **common)
        self.why = 'rests until another stage begins' if known['kind'] != EXECUTE else 'waits for further trials'
        return None

    def done(self, task: Task, episode_id: str) -> None:
        """A trial's episode is sealed; whatever happens from here on, this cell does not run it again."""
        if task.plan:
            append_done(self._run_dir / CONTESTANTS / task.plan, task.number, episode_id)
            self._ran(task.plan)[task.number] = episode_id

    def _ran(self, plan: str) -> dict[int, str]:
        if self._done[0] != plan:
            self._done = plan, read_done(self._run_dir / CONTESTANTS / plan)
        return self._done[1]

    def _read(self) -> bool:
        """Whether there is an order that counts; it is written whole, so one that cannot be read is none."""
        try:
            fresh = self._path.stat().st_mtime >= self._begun
            known = json.loads(self._path.read_text(encoding='utf-8'))
            if known['kind'] in KINDS and (fresh or time.monotonic() >= self._until):
                self._known = known
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return bool(self._known)
