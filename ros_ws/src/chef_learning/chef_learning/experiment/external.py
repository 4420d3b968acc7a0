# SPDX-License-Identifier: Apache-2.0
"""Cells that only a storage joins, in a stage: what they are asked for (`chef_task.orders`), and what comes from them.

    <stage>/t1/episodes/<cell>/<episode id>/       their bags
    <stage>/t1/taken.json                          of an execute stage: the bag that counts of each trial
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chef_learning.experiment.config import Stage
from chef_learning.experiment.folder import ExperimentError, read_json
from chef_learning.experiment.graph_cells import LOOK_S, STOP_S, Tally, watch, whole
from chef_learning.experiment.handout import Handout
from chef_learning.fleet_learner import Beside
from chef_task.orders import COLLECT, EXECUTE, ORDER, REST, SIGNS, Order, publish
from chef_task.storage import Damaged, Storage, StorageError
from chef_task.storage_sync import CELLS, POLICIES, POLICY_MARK, Down, StorageSync, Up, asked_of
from chef_task.whole_file import write_json

TAKEN = 'taken.json'
_SIGNS_S = 1.0          # between two looks at cells' signs of life
_LONGEST_S = 2.0        # more than that between two looks is no cell's silence
_OF_A_STAGE = re.compile(r'_\d\d_(collect|execute)_\d+')


def _wanted(stage: Stage) -> Callable[[str, str], bool]:
    """By the names of cell and episode: of this stage, or of none from a cell whose name has its kind."""
    def take(cell: str, name: str) -> bool:
        return f'_{stage.name}_' in name or (stage.kind in cell and not _OF_A_STAGE.search(name))
    return take


class Link:
    """A stage's side of a storage. A context that lets what is under way end.

    Args:
      ups: what goes there.

    Raises:
      ExperimentError: that is no storage's URL.
    """

    def __init__(self, url: str, stage: Stage, folder: Path, ups: Sequence[Up], say: Callable[[str], None]):
        try:
            self.storage = Storage(url)
            down = Down(f'{CELLS}/*/episodes', folder / 'episodes' / '*', take=_wanted(stage))
            self._sync = StorageSync(Storage(url), ups, [down])
        except StorageError as e:
            raise ExperimentError(e, usage=True) from None
        self._url, self._kind, self._say = url, stage.kind, say
        self._made = self._away = False
        self._told: Order | None = None

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_) -> None:
        self._sync.end()
        end = time.monotonic() + STOP_S
        while self._made and not self._sync.ended and time.monotonic() < end:
            time.sleep(0.05)

    def asked(self, action: Callable[[], Any]) -> bool:
        """Does something with the storage; whether it answered. ExperimentError where trying again cannot help."""
        for warning, line in self._sync.take_events():
            if warning or 'answers' in line:
                self._say(line)
        try:
            if not self._made:
                self.storage.create()
                self._made = True
                self._say(f'waits for cells: ./chef launch collect.launch.py storage:={self._url} namespace:=cell_1 ...')
                self._sync.start()
            action()
        except StorageError as e:
            if not e.passing:
                raise ExperimentError(e, usage=True) from None
            if not self._away:
                self._say(f'{e}; trying again')
            self._away = True
            return False
        self._away = False
        return True

    def tell(self, order: Order) -> None:
        """What cells are to do from now on; StorageError if the storage does not take it."""
        if order != self._told:
            self.storage.write_note(ORDER, order.encode())
            self._told = order


def collect(folder: Path, stage: Stage, url: str, triplet: int, beside: Beside | None, say: Callable[[str], None],
            stop: Callable[[], bool]) -> bool:
    """Fetches what cells bring to a storage until there is enough; policies of the learner go there. Whether there is.

    Raises:
      ExperimentError: the storage cannot be, or the learner failed.
    """
    wanted, tally = stage.settings.episodes, Tally(folder / 'episodes')
    tally.look()
    with Link(url, stage, folder, [Up(folder / 'policies', POLICIES, POLICY_MARK)], say) as link:
        def done() -> bool:
            enough = tally.complete() >= wanted
            order = Order(REST, stage.name) if enough else Order(COLLECT, stage.name, triplet, stage.settings.steps)
            return link.asked(lambda: link.tell(order)) and enough
        return watch(tally, wanted, done, beside, say, stop)


def taken(folder: Path) -> dict[int, Path]:
    """Number of a trial to the bag that counts, of those that are here."""
    return {int(number): folder / 'episodes' / name for number, name in read_json(folder / TAKEN).get('trials', {}).items()}


def execute(folder: Path, stage: Stage, url: str, triplet: int, trials: Sequence[tuple[str, int]],
            policies: Mapping[str, Path], say: Callable[[str], None], stop: Callable[[], bool]) -> bool:
    """Has cells run trials until there is a whole bag of each; whether there is.

    Args:
      trials: candidate and seed of the scene of each, in their order.
      policies: candidate to its policy.

    Raises:
      ExperimentError: the storage cannot be.
    """
    with Link(url, stage, folder, [], say) as link:
        run = _Trials(folder, stage, triplet, trials, policies, link, say)
        while not stop():
            run.take()
            if link.asked(run.look) and run.finished:
                return True
            time.sleep(LOOK_S)
        return False


class _Trials:
    """An execute stage on external cells."""

    def __init__(self, folder: Path, stage: Stage, triplet: int, trials: Sequence[tuple[str, int]],
                 policies: Mapping[str, Path], link: Link, say: Callable[[str], None]):
        self._folder, self._stage, self._triplet = folder, stage, triplet
        self._trials, self._policies, self._link, self._say = trials, policies, link, say
        self._tally = Tally(folder / 'episodes')
        self._plan, self._taken, self._handout = '', {}, None
        self._clock, self._at, self._signs_at, self._cells, self._told = 0.0, time.monotonic(), float('-inf'), set(), -1
        self.finished = False

    def look(self) -> None:
        """Hears cells and tells them what to do; StorageError if the storage does not answer."""
        settings = self._stage.settings
        if self._handout is None:
            self._begin()
        now = time.monotonic()
        if now - self._signs_at >= _SIGNS_S:
            self._hear()
            # what was not looked at was not silent: this machine slept, or the storage was away
            self._clock += min(now - self._at, _LONGEST_S)
            self._at = self._signs_at = now
        hands = self._handout.hands(self._clock)
        if len(self._taken) == len(self._trials):
            self._link.tell(Order(REST, self._stage.name))
            self.finished = True
            return
        self._link.tell(Order(EXECUTE, self._stage.name, self._triplet, settings.steps, settings.task, self._plan, hands))
        for cell in sorted(hands.keys() ^ self._cells):
            self._say(f'{cell} is here' if cell in hands else
                      f'{cell} has been silent for {settings.silent_s:g} s: others take its trials')
        self._cells = set(hands)

    def _begin(self) -> None:
        storage = self._link.storage
        self._plan = publish(storage, self._stage.name, self._trials, self._policies)
        known = read_json(self._folder / TAKEN)
        self._taken = {int(n): name for n, name in known.get('trials', {}).items()} if known.get('plan') == self._plan else {}
        note, hands = storage.note(ORDER), {}
        if note is not None:
            try:
                before = Order.decode(note)
                hands = before.hands if before.plan == self._plan else {}
            except ValueError:      # of another version of this software: it is replaced
                pass
        self._at = time.monotonic()
        self._handout = Handout([k for k in range(len(self._trials)) if k not in self._taken],
                                self._stage.settings.silent_s, hands)

    def _hear(self) -> None:
        signs = {}
        for cell in self._link.storage.notes(SIGNS):
            try:
                signs[cell] = self._link.storage.note(f'{SIGNS}/{cell}')
            except Damaged:         # half of it yet
                continue
        self._handout.hear(signs, self._clock)

    def take(self) -> None:
        """Takes what has come: of every trial the first bag that no fault ended."""
        if self._handout is None:
            return
        for bag, record in sorted(self._tally.look().items()):
            asked = asked_of(record)
            number = asked.get('trial')
            if asked.get('plan') != self._plan or type(number) is not int or not 0 <= number < len(self._trials):
                continue
            if whole(record) and number not in self._taken and record.seed == self._trials[number][1]:
                self._taken[number] = f'{bag.parent.name}/{bag.name}'
                write_json(self._folder / TAKEN, {'plan': self._plan, 'trials': self._taken})
                self._handout.done(number)
        if len(self._taken) != self._told:
            self._told = len(self._taken)
            self._say(f'{self._told} of {len(self._trials)} trials')
