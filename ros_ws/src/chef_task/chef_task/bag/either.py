# SPDX-License-Identifier: Apache-2.0
"""Episodes of either form, sealed bags and simulated files, for the commands that take both."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chef_task.bag.files import find_bags, find_files
from chef_task.bag.reader import Episode, Series, read_summary, schedule_of
from chef_task.episode_file import SUFFIX, EpisodeFile, read_record
from chef_task.records import EpisodeRecord
from chef_task.spaces import STREAMS, streams_of


class FileEpisode(EpisodeFile):
    """A file with what pictures ask of a bag beyond its Steps, see `chef_task.bag.Episode`."""

    image_codec = 'raw'

    def has(self, name: str) -> bool:
        """Whether it holds samples of a stream."""
        return name in streams_of(self.observation)

    def topics(self) -> dict[str, tuple[str, int]]:
        """None: there are no messages."""
        return {}

    def schedule(self) -> list[tuple[int, str]]:
        """(index of its first step, task) of every change of the acting task."""
        return schedule_of(self.steps(), self.record.tasks)

    def series(self, stream: str) -> Series:
        """A stream at the Steps, which is all there is of it; EpisodeFileError as `samples`."""
        stamps, samples = zip(*((step.stamp, s[stream]) for step, s in self.iterate((stream,))))
        values = {k: np.stack([s[k] for s in samples]) for k in STREAMS[stream].fields}
        return Series(np.array(stamps, np.int64), values)


def find_either(path: Path | str) -> list[Path]:
    """What looks like a bag (see `find_bags`) or a file of an episode under a folder, or the path, sorted by name.

    Raises:
      BagError: no such folder, or it may not be read.
    """
    files = find_files(path)
    return sorted([*files, *(find_bags(path) if files != [Path(path)] else ())], key=lambda p: (p.name, p))


def open_either(path: Path | str) -> Episode | FileEpisode:
    """The episode; BagError or EpisodeFileError if there is none, or it is damaged."""
    return FileEpisode(path) if _is_file(path) else Episode.open(path)


def read_either(path: Path | str) -> EpisodeRecord:
    """Its record, without reading its Steps; BagError or EpisodeFileError if that is damaged."""
    return read_record(path) if _is_file(path) else read_summary(path)


def left_out(folder: Path | str) -> str:
    """A line on the files below a folder, for commands that take only bags; '' if there are none."""
    count = len(find_files(folder))
    return (f'{count} episodes in files are left out; convert them first: ./chef bags convert {folder} --to DIR'
            if count else '')


def _is_file(path: Path | str) -> bool:
    return Path(path).suffix == SUFFIX and Path(path).is_file()
