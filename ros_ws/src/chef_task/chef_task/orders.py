# SPDX-License-Identifier: Apache-2.0
"""What an experiment has cells do that only a storage joins: collect, run trials, or rest; they look between episodes.

    <storage>/notes/order.json                         the stage's: what to do now, and which trials are in which cell's hand
    <storage>/notes/cells/<cell>.json                  the cell's: a sign of life
    <storage>/plans/<plan>/plan.json                   all trials of an execute stage: candidate and seed of each
    <storage>/contestants/<plan>/<place>/<version>/    the candidates' policies

On a cell `Follower` fetches what is in its hand and writes that, with local paths, into the run's `order.json`, which whoever
runs the episodes reads. A storage without an order is a fleet's: its cells collect.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chef_task.errors import one_line
from chef_task.rewards import TASKS
from chef_task.storage import Storage, StorageError, cell_name
from chef_task.whole_file import write_json

COLLECT, EXECUTE, REST = KINDS = 'collect', 'execute', 'rest'
ORDER, SIGNS, PLANS, CONTESTANTS = 'order', 'cells', 'plans', 'contestants'
FILE = 'order.json'     # in a run
_WORD = re.compile(r'[A-Za-z0-9_]{0,80}')
_PLAN = re.compile(r'[A-Za-z0-9_-]{0,120}')
_LATEST_RETRY_S = 5.0   # so that a cell is not silent for longer than the storage is away


@dataclass(frozen=True)
class Order:
    """What is to be done.

    kind: collect, execute or rest. stage: whose order it is, goes into the episodes' names. triplet: 0 for any. steps: of an
    episode, 0 for as many as the cell was started with. task, plan: of execute, whose policy acts, and the name of the trials.
    hands: cell to the numbers of its next trials.
    """

    kind: str = COLLECT
    stage: str = ''
    triplet: int = 0
    steps: int = 0
    task: str = ''
    plan: str = ''
    hands: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """As JSON has it; `decode` reads it back."""
        return {**vars(self), 'hands': {cell: list(hand) for cell, hand in sorted(self.hands.items())}}

    @classmethod
    def decode(cls, values: Any) -> Order:
        """ValueError, one line, if that is no order."""
        try:
            order = cls(**{**values, 'hands': {str(c): tuple(hand) for c, hand in values.get('hands', {}).items()}})
            numbers = [order.triplet, order.steps, *(n for hand in order.hands.values() for n in hand)]
            if order.kind in KINDS and _WORD.fullmatch(order.stage) and _PLAN.fullmatch(order.plan) \
                    and order.task in ('', *TASKS) and all(type(n) is int and n >= 0 for n in numbers):
                return order
        except (TypeError, AttributeError, ValueError):
            pass
        raise ValueError('not an order')


@dataclass(frozen=True)
class Planned:
    """A trial of a plan. contestant: place and version of its policy below `contestants/<plan>`."""

    number: int
    candidate: str
    contestant: str
    seed: int


def publish(storage: Storage, stage: str, trials: Sequence[tuple[str, int]], policies: Mapping[str, Path]) -> str:
    """Puts a plan and its candidates' policies into a storage, the plan last; its name, the same for the same plan.

    Args:
      trials: candidate and seed of each, in their order; the first is number 0.
      policies: candidate to the folder of its policy's version.

    Raises:
      StorageError: the storage does not take them.
    """
    places = {name: f'c{k:03d}' for k, name in enumerate(sorted(policies))}
    entries = [{'number': k, 'candidate': name, 'contestant': f'{places[name]}/{policies[name].name}', 'seed': seed}
               for k, (name, seed) in enumerate(trials)]
    whole = hashlib.sha256()
    for name, path in sorted(policies.items()):     # other policies of the same names are another plan
        for file in sorted(p for p in path.rglob('*') if p.is_file()):
            whole.update(f'{name}/{file.name} '.encode() + file.read_bytes())
    text = json.dumps({'trials': entries}, indent=1) + '\n'
    plan = f'{stage}-{hashlib.sha256(whole.digest() + text.encode()).hexdigest()[:12]}'
    for name, path in policies.items():
        storage.put(f'{CONTESTANTS}/{plan}/{places[name]}', path, {'candidate': name})
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, plan)
        folder.mkdir()
        (folder / 'plan.json').write_text(text, encoding='utf-8')
        storage.put(PLANS, folder, {'stage': stage, 'trials': len(entries)})
    return plan


def read_plan(folder: Path) -> dict[int, Planned]:
    """Number to trial; ValueError, one line, if it is damaged."""
    try:
        found = [Planned(**entry) for entry in json.loads((folder / 'plan.json').read_text(encoding='utf-8'))['trials']]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ValueError(f'{folder}: not a plan of trials: {one_line(e)}') from None
    return {t.number: t for t in found}


class Follower:
    """Keeps a run's `order.json` as the storage says, and gives signs of life, in a thread of its own.

    Args:
      storage: of this thread alone.
      cell: the ROS namespace.
      look_s, sign_s: s between two looks, and two signs of life.

    Raises:
      StorageError: the cell cannot have such a name.
    """

    def __init__(self, storage: Storage, cell: str, run_dir: Path, look_s: float = 1.0, sign_s: float = 2.0):
        self._storage, self._cell, self._run_dir = storage, cell_name(cell), run_dir
        self._look_s, self._sign_s = look_s, sign_s
        self._start, self._count, self._sign_at = uuid.uuid4().hex, 0, float('-inf')
        self._plan: tuple[str, dict[int, Planned]] = '', {}
        self._written: dict[str, Any] | None = None
        self._error, self._retry_s = '', look_s
        self._events: deque[tuple[bool, str]] = deque()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name='orders', daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Asks it to end. Returns at once."""
        self._ending.set()

    @property
    def error(self) -> str:
        """Why it cannot follow, '' if it does."""
        return self._error

    def take_events(self) -> list[tuple[bool, str]]:
        """Whether it is a warning, and a line, of what happened since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def _run(self) -> None:
        while not self._ending.is_set():
            self._ending.wait(self.round())

    def round(self) -> float:
        """One look; s to wait until the next."""
        try:
            self._storage.check()
            self._sign()
            self._follow()
        except Exception as e:      # whatever it is, it may pass
            text = str(e) if isinstance(e, (StorageError, ValueError)) else f'{type(e).__name__}: {one_line(e)}'
            if not self._error:
                self._events.append((True, f'orders: {text}; trying again'))
            self._error, self._retry_s = text, min(2 * self._retry_s, _LATEST_RETRY_S)
            return self._retry_s
        self._error, self._retry_s = '', self._look_s
        return self._look_s

    def _sign(self) -> None:
        now = time.monotonic()
        if now - self._sign_at >= self._sign_s:
            # of no clock: the stage sees that it is another than before
            self._storage.write_note(f'{SIGNS}/{self._cell}', {'start': self._start, 'count': self._count})
            self._count, self._sign_at = self._count + 1, now

    def _follow(self) -> None:
        note = self._storage.note(ORDER)
        order = Order() if note is None else Order.decode(note)
        trials = []
        if order.kind == EXECUTE:
            for number in order.hands.get(self._cell, ()):
                t = self._planned(order.plan)[number]
                place, _, version = t.contestant.partition('/')
                policy = self._storage.get(f'{CONTESTANTS}/{order.plan}/{place}', version,
                                           self._run_dir / CONTESTANTS / order.plan / place)
                trials.append({'number': number, 'candidate': t.candidate, 'policy': str(policy), 'seed': t.seed})
        values = {k: v for k, v in order.encode().items() if k != 'hands'} | {'trials': trials}
        if values != self._written:
            write_json(self._run_dir / FILE, values)
            if self._written is None or self._written['stage'] != order.stage or self._written['kind'] != order.kind:
                self._events.append((False, f'the storage says: {order.kind}' + f' ({order.stage})' * bool(order.stage)))
            self._written = values
        os.utime(self._run_dir / FILE)      # what it says was so at this look

    def _planned(self, plan: str) -> dict[int, Planned]:
        if self._plan[0] != plan:
            self._plan = plan, read_plan(self._storage.get(PLANS, plan, self._run_dir / PLANS))
        return self._plan[1]
