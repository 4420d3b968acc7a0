# SPDX-License-Identifier: Apache-2.0
"""Replay's files: records and images of all episodes one behind the other, and a line an episode.

    steps.bin       records of `Layout.dtype`
    images.bin      bytes, where the records say
    episodes.jsonl  id, number of records, end in images.bin, and what sets are made of; written last

They only grow, and what a line tells of is there before the line is. So several processes may read while one
appends, a writer that was killed leaves at most what no line tells of, and a batch is one look into one
mapping, whatever the number of episodes. Not fsynced: all can be rebuilt from the bags, and lines that tell of more
than there is are dropped when the files are opened.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chef_learning.replay_format import Layout, ReplayError, read_episode
from chef_learning.tasks import REACHED
from chef_task.bag import Episode
from chef_task.episode_file import EpisodeFile
from chef_task.records import Reason
from chef_task.rewards import MAIN_TASK

STEPS, IMAGES, INDEX, MARKER = 'steps.bin', 'images.bin', 'episodes.jsonl', 'format.json'


@dataclass(frozen=True)
class Line:
    """One episode of the index.

    steps: records, one more than transitions. images_end: of its images, bytes. success: whether the main task's reward
    was 1 at the end. policy: version that acted. reached: tasks whose reward was above `tasks.REACHED` at some Step.
    ended: those whose reward was above one half at the last.
    """

    id: str
    steps: int
    images_end: int
    success: bool
    policy: str
    reached: tuple[str, ...]
    ended: tuple[str, ...] = ()


class View:
    """All episodes at one time, ordered by id, which is by time: the same whatever order they arrived in.

    ids [E]; first: record that an episode begins with, [E]; transitions [E]; steps: the mapped records; blob: the
    mapped images.
    """

    def __init__(self, lines: list[Line], steps: np.ndarray, blob: np.ndarray):
        self.lines = sorted(lines, key=lambda line: line.id)
        begins = dict(zip((line.id for line in lines), np.cumsum([0] + [line.steps for line in lines]).tolist()))
        self.ids = tuple(line.id for line in self.lines)
        self.first = np.array([begins[i] for i in self.ids], np.int64)
        self.transitions = np.array([line.steps - 1 for line in self.lines], np.int64)
        self.steps, self.blob = steps, blob


class Store:
    """The files of one folder.

    Args:
      folder: made if missing and writable; one of another layout is emptied, to be built anew.
      writable: false: only read, what another process writes.

    Attributes:
      emptied: whether it was of another layout.

    Raises:
      ReplayError: the folder holds something else, or is not there to be read.
      OSError: it cannot be used.
    """

    def __init__(self, folder: Path, layout: Layout, writable: bool = True):
        self.folder, self._layout, self.writable = folder, layout, writable
        self._marker = json.dumps(layout.describe(), indent=1) + '\n'
        self._lines: list[Line] = []
        self._known, self._read = set(), 0      # ids; bytes of the index that were read
        self._records = self._images_end = 0    # of what the lines tell of
        self._view: View | None = None          # None: of fewer episodes than are there by now
        self._lock = threading.Lock()           # one thread may add episodes while others look
        self.emptied = False
        if writable:
            self._prepare()
        self.refresh()
        if writable:
            self._cut()

    def __contains__(self, episode_id: str) -> bool:
        return episode_id in self._known

    def _prepare(self) -> None:
        marker, text = self.folder / MARKER, self._marker
        self.folder.mkdir(parents=True, exist_ok=True)
        present = _text(marker)
        if not _is_ours(present) and any(self.folder.iterdir()):
            raise ReplayError(f'{self.folder}: holds files but no {MARKER} of ours: not a replay')
        if present != text:
            self.emptied = present is not None
            for entry in self.folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            temporary = self.folder / f'.{MARKER}.partial'
            temporary.write_text(text, encoding='utf-8')
            os.replace(temporary, marker)
        for name in (STEPS, IMAGES, INDEX):
            (self.folder / name).touch()

    def refresh(self) -> None:
        """Looks for episodes that another process has appended."""
        if not self.writable and _text(self.folder / MARKER) != self._marker:
            raise ReplayError(f'{self.folder}: is not a replay of this kind')
        sizes = {name: (self.folder / name).stat().st_size if (self.folder / name).exists() else 0
                 for name in (STEPS, IMAGES)}
        with open(self.folder / INDEX, 'rb') as index:
            index.seek(self._read)
            text = index.read()
        with self._lock:
            for raw in text.split(b'\n')[:-1]:      # what follows the last newline is being written
                line = _parse(raw)
                if line is None or line.id in self._known \
                        or not self._images_end <= line.images_end <= sizes[IMAGES] \
                        or (self._records + line.steps) * self._layout.dtype.itemsize > sizes[STEPS]:
                    break
                self._records, self._images_end = self._records + line.steps, line.images_end
                self._lines.append(line)
                self._known.add(line.id)
                self._read += len(raw) + 1
                self._view = None

    @property
    def view(self) -> View:
        """The episodes that are there; another one once there are more, never changed.

        Raises:
          ReplayError: the files are gone, or shorter than they were.
        """
        with self._lock:
            if self._view is None:
                try:
                    self._view = View(self._lines, *self._map())
                except (OSError, ValueError) as e:
                    raise ReplayError(f'{self.folder}: damaged: {e}') from None
            return self._view

    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        steps = np.memmap(self.folder / STEPS, self._layout.dtype, 'r', shape=(self._records,)) if self._records \
            else np.zeros(0, self._layout.dtype)
        blob = np.memmap(self.folder / IMAGES, np.uint8, 'r', shape=(self._images_end,)) if self._images_end \
            else np.zeros(0, np.uint8)
        # plain arrays on the mappings: np.memmap looks up more at every index
        return np.asarray(steps), np.asarray(blob)

    def _cut(self) -> None:
        """Takes away what no sound line tells of."""
        os.truncate(self.folder / INDEX, self._read)
        os.truncate(self.folder / STEPS, self._records * self._layout.dtype.itemsize)
        os.truncate(self.folder / IMAGES, self._images_end)

    def append(self, episode_id: str, episode: Episode | EpisodeFile, stop: Callable[[], bool]) -> int:
        """Adds an episode; returns the number of transitions, 0 if there are none to learn from.

        Raises:
          what `read_episode` raises; nothing was added.
        """
        end = self._images_end
        try:
            with open(self.folder / IMAGES, 'ab') as images:
                steps = read_episode(episode, self._layout, images, end, stop)
                images_end = images.tell() if len(steps) else end
            if len(steps) >= 2:
                line = Line(episode_id, len(steps), images_end, self._succeeded(episode, steps),
                            str(episode.record.policy_version), self._names((steps['rewards'] > REACHED).any(axis=0)),
                            self._names(steps['rewards'][-1] > 0.5))
                with open(self.folder / STEPS, 'ab') as f:
                    f.write(steps.tobytes())
                with open(self.folder / INDEX, 'ab') as f:
                    f.write((json.dumps(line.__dict__) + '\n').encode())
                self.refresh()
        finally:
            if episode_id not in self._known:
                self._cut()
        return max(len(steps) - 1, 0)

    def _names(self, chosen: np.ndarray) -> tuple[str, ...]:
        return tuple(name for name, yes in zip(self._layout.tasks, chosen.tolist()) if yes)

    def _succeeded(self, episode: Episode, steps: np.ndarray) -> bool:
        """Whether the main task was done at the end; by its label where rewards are labels."""
        if self._layout.labels is None or MAIN_TASK not in self._layout.tasks:
            return bool(episode.record.success)
        reward = steps['rewards'][-1, self._layout.tasks.index(MAIN_TASK)]
        return bool(reward >= 1.0) and Reason.of(episode.record.termination_reason) is Reason.TIME_LIMIT


def _text(path: Path) -> str | None:
    return path.read_text(encoding='utf-8', errors='replace') if path.exists() else None


def _is_ours(text: str | None) -> bool:
    try:
        value = json.loads(text or '')
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and {'format', 'observation', 'features'} <= set(value)


def _parse(raw: bytes) -> Line | None:
    try:
        value = json.loads(raw)
        line = Line(**value | {key: tuple(value[key]) for key in ('reached', 'ended')})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    kinds = all(type(getattr(line, name)) is kind for name, kind in
                (('id', str), ('steps', int), ('images_end', int), ('success', bool), ('policy', str)))
    kinds = kinds and all(type(name) is str for name in (*line.reached, *line.ended))
    return line if kinds and line.steps >= 2 and 0 <= line.images_end < 2**63 and line.steps < 2**40 else None
