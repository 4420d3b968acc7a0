# SPDX-License-Identifier: Apache-2.0
"""Keeps local folders and a storage alike, in a thread of its own: whoever works beside it waits for nothing.

A cell's bags go up and the newest policy comes down:

    sync = StorageSync(Storage(url), [Up(run / 'episodes', cell_place('cell_1'), 'metadata.yaml', about_bag)],
                       [Down('policies', run / 'policies', newest=True)])
    sync.start()
    ...
    sync.end()      # and, as long as there is time, until `sync.ended`

What lies locally is the truth: while the storage is away, or when a process died, nothing is lost and the rest follows.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from chef_task.bag.errors import BagError
from chef_task.bag.files import quick_summary
from chef_task.errors import one_line
from chef_task.manifest import NAME
from chef_task.records import EpisodeRecord
from chef_task.storage import Damaged, Storage, StorageError

POLICIES, POLICY_MARK = 'policies', 'policy.json'
BAG_MARK = 'metadata.yaml'
CELLS = 'cells'
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 30.0
_DAMAGED_S = 60.0       # until a damaged folder is looked at again


@dataclass(frozen=True)
class Up:
    """Folders to upload. mark: a file that those have which are whole. about: what their manifests tell."""

    folder: Path
    place: str
    mark: str
    about: Callable[[Path], dict[str, Any]] = lambda path: {}


@dataclass(frozen=True)
class Down:
    """Folders to fetch. place: its second part may be a pattern of cells' names; each then takes the place of a part `*` of
    the folder. newest: only that. take: by the names of cell ('' without a pattern) and folder, whether it is wanted.
    """

    place: str
    folder: Path
    newest: bool = False
    take: Callable[[str, str], bool] = lambda cell, name: True


@dataclass(frozen=True)
class Status:
    """uploaded, fetched: since the start. waiting: folders to upload that were seen. error: why nothing goes on, '' if it
    does; refused: folders that were given up."""

    uploaded: int = 0
    fetched: int = 0
    waiting: int = 0
    refused: int = 0
    error: str = ''


def about_bag(path: Path) -> dict[str, Any]:
    """What the manifest of an episode tells; {} where the bag does not."""
    try:
        r = quick_summary(path)
    except BagError:
        return {}
    return {'cell': r.cell, 'policy_version': r.policy_version, 'termination_reason': r.termination_reason,
            'success': r.success, 'steps': r.steps, 'triplet': r.triplet, 'seed': r.seed, **asked_of(r)}


def asked_of(record: EpisodeRecord) -> dict[str, Any]:
    """What a stage of an experiment had a cell do, see `orders`: its name as `stage`, and of a trial more; {} if none did."""
    asked = record.metadata.get('asked')
    return asked if isinstance(asked, dict) else {}


class StorageSync:
    """The thread. look_s: s between two looks at a storage that has nothing new."""

    def __init__(self, storage: Storage, ups: Sequence[Up], downs: Sequence[Down], look_s: float = 1.0):
        self._storage, self._ups, self._downs, self._look_s = storage, tuple(ups), tuple(downs), look_s
        self._there: dict[Up | str, set[str]] = {}      # known to be in the storage, or locally
        self._refused: dict[str, float] = {}            # path to when it is tried again
        self._events: deque[tuple[bool, str]] = deque()
        self._retry_s = _FIRST_RETRY_S
        self._status = Status()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name='storage', daemon=True)

    # ---- for whoever works beside it ----------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Asks it to upload what is there and end; it tries once more where the storage is away. Returns at once."""
        self._ending.set()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended, or never ran."""
        return not self._thread.is_alive()

    @property
    def status(self) -> Status:
        return self._status

    def take_events(self) -> list[tuple[bool, str]]:
        """Whether it is a warning, and a line, of what happened since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    # ---- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            ending = self._ending.is_set()
            wait_s = self.round()
            if ending and wait_s:
                return
            self._ending.wait(wait_s) if not ending else time.sleep(0)

    def round(self) -> float:
        """At most one folder up from each place, and all that is new down; s to wait until the next, 0: there is more."""
        try:
            self._storage.check()
            more = any([self._upload(up) for up in self._ups])
            for down in self._downs:
                self._fetch(down)
        except Exception as e:      # whatever it is, it may pass
            text = str(e) if isinstance(e, StorageError) else f'{type(e).__name__}: {one_line(e)}'
            if not self._status.error:
                self._say(True, f'{text}; trying again')
            wait_s, self._retry_s = self._retry_s, min(2 * self._retry_s, _LAST_RETRY_S)
            self._set(error=text, waiting=self._waiting())
            return wait_s
        if self._status.error:
            self._say(False, f'{self._storage.url}: answers again')
        self._retry_s = _FIRST_RETRY_S
        self._set(error='', waiting=self._waiting())
        return 0.0 if more else self._look_s

    def _upload(self, up: Up) -> bool:
        """Uploads the oldest that is new; whether there was one."""
        if up not in self._there:
            self._there[up] = set(self._storage.names(up.place))
        for path in self._new(up):
            try:
                if self._storage.put(up.place, path, up.about(path)):
                    self._set(uploaded=self._status.uploaded + 1)
                    self._say(False, f'uploaded {path.name}')
            except StorageError as e:
                if e.passing:
                    raise
                self._refuse(path, e)
                continue
            self._there[up].add(path.name)
            return True
        return False

    def _new(self, up: Up) -> Iterator[Path]:
        """Local folders that are whole and not known to be in the storage, oldest first."""
        known = self._there.get(up, set())
        try:
            with os.scandir(up.folder) as entries:
                names = sorted(e.name for e in entries if e.name not in known and NAME.fullmatch(e.name))
        except (FileNotFoundError, NotADirectoryError):
            return
        for path in (up.folder / name for name in names):
            if (path / up.mark).is_file() and not self._held_back(path):
                yield path

    def _waiting(self) -> int:
        return sum(1 for up in self._ups for _ in self._new(up))

    def _fetch(self, down: Down) -> None:
        if '*' not in down.place:
            self._fetch_from(down, down.place, down.folder)
            return
        before, cells, after = down.place.split('/', 2)
        for cell in self._storage.folders(before):
            if fnmatchcase(cell, cells):
                folder = Path(*(cell if part == '*' else part for part in down.folder.parts))
                self._fetch_from(down, f'{before}/{cell}/{after}', folder, cell)

    def _fetch_from(self, down: Down, place: str, folder: Path, cell: str = '') -> None:
        names = sorted((n for n in self._storage.names(place) if down.take(cell, n)), key=lambda n: (len(n), n))
        if place not in self._there:
            self._there[place] = set(os.listdir(folder)) if folder.is_dir() else set()
        for name in names[-1:] if down.newest else names:
            if name in self._there[place] or self._held_back(folder / name):
                continue
            if self._ending.is_set():
                return
            try:
                self._storage.get(place, name, folder)
            except Damaged as e:
                self._refuse(folder / name, e)
                continue
            self._there[place].add(name)
            self._set(fetched=self._status.fetched + 1)
            self._say(False, f'fetched {name}')

    def _held_back(self, path: Path) -> bool:
        return self._refused.get(str(path), 0.0) > time.monotonic()

    def _refuse(self, path: Path, error: StorageError) -> None:
        if str(path) not in self._refused:
            self._say(True, str(error))
        self._refused[str(path)] = time.monotonic() + (_DAMAGED_S if error.passing else float('inf'))
        self._set(refused=len(self._refused))

    def _set(self, **changes: Any) -> None:
        self._status = Status(**{**vars(self._status), **changes})

    def _say(self, warning: bool, text: str) -> None:
        self._events.append((warning, text))
