# SPDX-License-Identifier: Apache-2.0
"""One episode on disk, as replay keeps it: `steps.npy` (one record a Step) and `images.bin` (PNGs).

Everything is a function of the bag alone, with no time or path in it, so a rebuild gives the same bytes.
Not fsynced: it can be rebuilt, and a file cut short is noticed when it is opened.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from chef_task.bag import Episode
from chef_task.bag.labels import Labels
from chef_task.errors import OneLineError
from chef_task.observation import fields_of
from chef_task.rewards import TASKS
from chef_task.spaces import ACTION_SIZE, CAMERAS, IMAGE_SHAPE

FORMAT = 1
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]   # level 1: a third of the time of level 3 for a few per cent of size


class ReplayError(OneLineError):
    """Replay or one of its episodes cannot be used; the text is one line that names it and the cause."""


class Stopped(Exception):
    """The caller asked to stop; nothing was left behind."""


class Layout:
    """Which features a Step's record holds, and where.

    Haptics are always stored, so that a learner with or without them can use the same replay.

    Args:
      observation: 'pixels' or 'state'.
      labels: where the rewards and the names of the tasks are from; None: as they were recorded.
    """

    def __init__(self, observation: str, labels: Labels | None = None):
        fields = fields_of(observation, haptics=True)
        self.observation, self.labels = observation, labels
        self.tasks = labels.tasks if labels else TASKS
        self.slices: dict[str, slice] = {}
        size = 0
        for key, field in fields.items():
            if field.group != 'images':
                self.slices[key] = slice(size, size + field.shape[0])
                size += field.shape[0]
        self.image_keys = tuple(k for k, f in fields.items() if f.group == 'images')
        columns: list[tuple] = [
            ('features', '<f4', (size,)), ('action', '<f4', (ACTION_SIZE,)),
            ('rewards', '<f4', (len(self.tasks),)), ('discount', '<f4'), ('task', '<i4')]
        if self.image_keys:
            # where the PNG of each camera lies in images.bin, bytes
            columns += [('image_start', '<u8', (len(CAMERAS),)), ('image_size', '<u4', (len(CAMERAS),))]
        self.dtype = np.dtype(columns)

    def describe(self) -> dict:
        """What format.json holds: a replay with another text is rebuilt."""
        features = [[k, s.stop - s.start] for k, s in self.slices.items()]
        rewards = {'labels': [self.labels.name, self.labels.definition]} if self.labels else {}
        return {'format': FORMAT, 'observation': self.observation, 'features': features,
                'tasks': list(self.tasks), 'images': list(self.image_keys), **rewards}


def write_episode(episode: Episode, folder: Path, layout: Layout, stop: Callable[[], bool]) -> int:
    """Writes `folder` in one rename and returns the number of transitions, 0 if there are none to learn from.

    A Step whose features are not finite (a sensor fault) ends the episode before it.

    Raises:
      ReplayError: another set of tasks, or the cameras were not recorded.
      BagError: the bag is damaged, or its labels are; NoLabels: there are none of the wanted version.
      Stopped: `stop` returned true between two steps.
    """
    rewards = layout.labels.read(episode) if layout.labels else None
    if rewards is None and episode.record.tasks != TASKS:
        raise ReplayError(f'{episode.path}: its tasks are {", ".join(episode.record.tasks)}, '
                          f'expected {", ".join(TASKS)}')
    if layout.image_keys and episode.observation != 'pixels':
        raise ReplayError(f'{episode.path}: recorded without the cameras, which pixels need')
    temporary = folder.with_name(f'.{folder.name}.partial')
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        steps = np.zeros(len(episode.steps()), layout.dtype)
        count = _write_steps(episode, rewards, steps, temporary, layout, stop)
        if count < 2:
            return 0
        np.save(temporary / 'steps.npy', steps[:count])
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count - 1


def _write_steps(episode: Episode, rewards: np.ndarray | None, steps: np.ndarray, folder: Path, layout: Layout,
                 stop: Callable[[], bool]) -> int:
    position = 0
    with open(folder / 'images.bin', 'wb') as blob:
        for i, (step, features) in enumerate(episode.features()):
            if stop():
                raise Stopped
            row = steps[i]
            for key, part in layout.slices.items():
                row['features'][part] = features[key]
            row['action'], row['rewards'] = step.action, step.rewards if rewards is None else rewards[i]
            row['discount'], row['task'] = step.discount, step.task
            if not all(np.isfinite(row[n]).all() for n in ('features', 'action', 'rewards', 'discount')):
                return i
            for c, key in enumerate(layout.image_keys):
                data = encode_image(features[key])
                row['image_start'][c], row['image_size'][c] = position, len(data)
                position += blob.write(data)
    return len(steps)


def encode_image(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] rgb as PNG, without loss and always the same bytes."""
    ok, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _PNG)
    if not ok:
        raise ReplayError('an image could not be compressed')
    return data.tobytes()


_PNG_HEAD = encode_image(np.zeros(IMAGE_SHAPE, np.uint8))[:24]     # signature, IHDR, width and height


class StoredEpisode:
    """A stored episode, memory-mapped; ReplayError if its files do not fit together.

    `steps` is a record array [T + 1] with the columns of `Layout.dtype`; T is `transitions`.
    """

    def __init__(self, folder: Path, layout: Layout):
        self.folder, self._layout = folder, layout
        try:
            self.steps = np.load(folder / 'steps.npy', mmap_mode='r', allow_pickle=False)
            blob = folder / 'images.bin'
            self._blob_size = blob.stat().st_size
            self._blob = np.memmap(blob, np.uint8, 'r') if self._blob_size else None
        except Exception as e:      # of a damaged header numpy's parsers raise several kinds
            raise ReplayError(f'{folder}: damaged: {e}') from None
        if self.steps.dtype != layout.dtype or self.steps.ndim != 1 or len(self.steps) < 2:
            raise ReplayError(f'{folder}: damaged: steps.npy has an unexpected layout')
        self.transitions = len(self.steps) - 1
        if layout.image_keys:
            last = self.steps[-1]
            if int(last['image_start'][-1]) + int(last['image_size'][-1]) != self._blob_size:
                raise ReplayError(f'{folder}: damaged: images.bin has an unexpected size')

    def stacked(self, indices: np.ndarray, histories: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Features of the steps [b] with their past, key -> [b, history, size], as `History` stacks them."""
        longest = max(histories.values())
        rows = np.maximum(indices[:, None] + np.arange(1 - longest, 1), 0)
        block = self.steps['features'][rows]
        return {k: block[:, longest - h:, self._layout.slices[k]] for k, h in histories.items()}

    def image(self, index: int, camera: int) -> np.ndarray:
        """uint8 [H, W, 3] rgb of one camera at one step."""
        row = self.steps[index]
        start = int(row['image_start'][camera])
        blob = self._blob if self._blob is not None else np.zeros(0, np.uint8)
        data = blob[start:start + int(row['image_size'][camera])]
        # a damaged head may promise an image of gigabytes: only those of our size are decoded
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if bytes(data[:len(_PNG_HEAD)]) == _PNG_HEAD else None
        if image is None or image.shape != IMAGE_SHAPE:
            raise ReplayError(f'{self.folder}: damaged: the image of step {index} cannot be decoded')
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
