# SPDX-License-Identifier: Apache-2.0
"""Bags as a LeRobot dataset (codebase version v3.0): Parquet files with lossless images in them.

    meta/info.json, meta/stats.json, meta/tasks.parquet, meta/episodes/chunk-000/file-000.parquet
    meta/chef.json                          where it is from, units, what was left out
    data/chunk-000/file-000.parquet         a row a transition, a row group an episode

Row k of an episode holds what was seen at Step k, the action taken there, and the rewards of Step k + 1
(`next.*`); the last Step has no action, and so no row. `timestamp` is frame_index / fps, as LeRobot asks;
when things were captured is in `stamp_ns` and `stream_stamps_ns`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from chef_task import __version__
from chef_task.bag import lerobot_stats
from chef_task.bag.errors import BagError
from chef_task.bag.labels import Labels
from chef_task.bag.lerobot_rows import FPS, UNITS, Columns, columns_of, features_of, text
from chef_task.bag.lerobot_tables import (
    CHUNK_FILES, DATA_FILE_MB, FILE, DataFiles, EpisodeFile, count_rows, write_tasks)
from chef_task.bag.reader import Episode
from chef_task.records import EpisodeRecord
from chef_task.rewards import MAIN_TASK, TASKS

# a task of LeRobot is an instruction in words
SENTENCES = {
    'open': 'Open the gripper.',
    'reach_grasp': 'Reach for the red object and grasp it.',
    'lift': 'Lift the red object.',
    'place': 'Bring the red object right above the blue one.',
    'stack': 'Put the red object on top of the blue one and let go.',
    'stack_leave': 'Stack the red object on the blue one and move away.',
}
_NOTES = ['timestamp is frame_index / fps; stamp_ns (of the tick) and stream_stamps_ns (of the samples) are when '
          'things were captured',
          'next.* are of the state after the action; next.reward is that of the main task',
          'task_index is of the task whose policy acted',
          'quantiles in meta/stats.json: exact for images, else the episodes\' own, weighted by length']


@dataclass
class Export:
    """What was exported: counts, and a line for every bag that was left out."""

    episodes: int = 0
    frames: int = 0
    skipped: list[str] = field(default_factory=list)


def export(paths: Iterable[Path], out: Path, observation: str = '', labels: Labels | None = None) -> Export:
    """Writes the dataset; it appears complete or not at all.

    Args:
      paths: of bags, in the order of the episodes.
      out: folder to make.
      observation: 'pixels', or 'state' for no images; if empty that of the first bag, which all must share.
      labels: rewards to take instead of the recorded ones.

    Raises:
      BagError: out exists, the bags are of both kinds, none can be exported, or the disk refuses.
    """
    out = Path(os.path.abspath(out))
    if out.exists():
        raise BagError(f'{out}: is there already')
    temporary = out.with_name(f'.{out.name}.partial')
    if temporary.exists():
        raise BagError(f'{temporary}: left by an export that was killed, or one is at work; remove it')
    try:
        temporary.mkdir(parents=True)
    except OSError as e:
        raise BagError(f'{out}: cannot be written: {e.strerror or e}') from e
    try:
        writer = _Writer(temporary, observation, labels)
        try:
            for path in paths:
                writer.add(path)
        finally:
            writer.close()
        report = writer.finish()
        _sync(temporary)
        os.rename(temporary, out)
    except OSError as e:
        raise BagError(f'{out}: cannot be written: {e.strerror or e}') from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return report


def _sync(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for path in (*(os.path.join(place, n) for n in names), place):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


class _Mixed(BagError):
    """A bag with cameras among those without, or the other way round."""


class _Writer:
    def __init__(self, folder: Path, observation: str, labels: Labels | None):
        self._folder, self._asked, self._observation, self._labels = folder, observation, observation, labels
        self._tasks = labels.tasks if labels else TASKS
        self._report = Export()
        self._data: DataFiles | None = None
        self._episodes = EpisodeFile(folder)
        self._instructions = list(SENTENCES.values())
        self._stats: dict[str, list[lerobot_stats.Stats]] = {}
        self._histograms: dict[str, np.ndarray] = {}

    def add(self, path: Path) -> None:
        """Adds a bag, or a line on why it is left out; BagError if it is of the other kind than the first."""
        try:
            episode = Episode.open(path)
            self._check(episode)
            columns = columns_of(episode, self._rewards(episode), self._tasks, self._observation)
            facts = _facts(episode.record)
            if not len(columns):
                raise BagError(f'{path}: has no transition')
        except _Mixed:
            raise
        except (BagError, ValueError, TypeError, OverflowError) as e:       # a summary may hold anything
            self._report.skipped.append(str(e) if str(path) in str(e) else f'{path}: {e}')
            return
        self._store(columns, facts)

    def _check(self, episode: Episode) -> None:
        has = episode.observation
        if self._asked == 'pixels' and has != 'pixels':
            raise BagError(f'{episode.path}: recorded without the cameras')
        self._observation = self._observation or has
        if not self._asked and has != self._observation:
            raise _Mixed(f'{episode.path}: recorded {"with" if has == "pixels" else "without"} the cameras, unlike '
                         'those before it: choose --observation')

    def _rewards(self, episode: Episode) -> np.ndarray:
        if self._labels is not None:
            return self._labels.read(episode)
        if episode.record.tasks != TASKS:
            raise BagError(f'{episode.path}: its tasks are {", ".join(episode.record.tasks)}, '
                           f'expected {", ".join(TASKS)}')
        return np.array([s.rewards for s in episode.steps()])

    def _store(self, columns: Columns, facts: dict) -> None:
        if self._data is None:
            self._features = features_of(self._observation, self._tasks)
            self._data = DataFiles(self._folder, self._features)
        number, start, count = self._report.episodes, self._report.frames, len(columns)
        values = {**columns.values, 'episode_index': np.full((count, 1), number),
                  'index': np.arange(start, start + count)[:, None],
                  'task_index': np.array([[self._instruction(t)] for t in columns.tasks])}
        chunk, file = self._data.write(values, columns.images)
        stats = {k: lerobot_stats.of_rows(values[k]) if k in values else
                 lerobot_stats.of_histogram(columns.histograms[k], count) for k in self._features}
        for key, value in stats.items():
            if key in values:
                self._stats.setdefault(key, []).append(value)
            else:
                self._histograms[key] = self._histograms.get(key, 0) + columns.histograms[key]
        self._episodes.add({
            'episode_index': number, 'length': count,
            'tasks': list(dict.fromkeys(self._instructions[i] for i in values['task_index'][:, 0])),
            'dataset_from_index': start, 'dataset_to_index': start + count,
            'data/chunk_index': chunk, 'data/file_index': file,
            'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0,
            **facts,
            **{f'stats/{k}/{name}': v.tolist() for k, s in stats.items() for name, v in s.items()}})
        self._report.episodes += 1
        self._report.frames += count

    def _instruction(self, task: str) -> int:
        sentence = SENTENCES.get(task, task)
        if sentence not in self._instructions:
            self._instructions.append(sentence)
        return self._instructions.index(sentence)

    def close(self) -> None:
        if self._data is not None:
            self._data.close()
        self._episodes.close()

    def finish(self) -> Export:
        """What belongs to all episodes; BagError if there are none."""
        report = self._report
        if not report.episodes:
            raise BagError('none of the bags can be exported' + (f': {report.skipped[0]}' if report.skipped else ''))
        written = count_rows(self._folder)
        if written != report.frames:
            raise BagError(f'{self._folder}: {written} of {report.frames} rows are in the files: not exported')
        write_tasks(self._folder, self._instructions)
        stats = {k: lerobot_stats.of_histogram(self._histograms[k], report.frames) if k in self._histograms else
                 lerobot_stats.merge(self._stats[k]) for k in self._features}
        self._json('stats', {k: {name: v.tolist() for name, v in s.items()} for k, s in stats.items()})
        self._json('info', {
            'codebase_version': 'v3.0', 'robot_type': 'sawyer', 'total_episodes': report.episodes,
            'total_frames': report.frames, 'total_tasks': len(self._instructions), 'chunks_size': CHUNK_FILES,
            'data_files_size_in_mb': DATA_FILE_MB, 'video_files_size_in_mb': 200, 'fps': FPS,
            'splits': {'train': f'0:{report.episodes}'}, 'data_path': f'data/{FILE}', 'video_path': None,
            'features': self._features})
        self._json('chef', {
            'format': 1, 'software': __version__,
            'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'labels': {'version': self._labels.name, 'definition': self._labels.definition} if self._labels else None,
            'main_task': MAIN_TASK, 'instructions': SENTENCES, 'units': UNITS, 'notes': _NOTES,
            'left_out': report.skipped})
        return report

    def _json(self, name: str, values: dict) -> None:
        (self._folder / 'meta' / f'{name}.json').write_text(json.dumps(values, indent=1) + '\n', encoding='utf-8')


def _facts(r: EpisodeRecord) -> dict:
    """What `meta/episodes` tells of where an episode is from."""
    return {'chef/episode_id': text(r.episode_id), 'chef/cell': text(r.cell), 'chef/triplet': int(np.int64(r.triplet)),
            'chef/seed': int(np.int64(r.seed)), 'chef/policy_version': text(r.policy_version),
            'chef/termination_reason': text(r.termination_reason), 'chef/success': bool(r.success),
            'chef/peak_force_n': float(r.peak_force_n)}
