# SPDX-License-Identifier: Apache-2.0
"""Replay: transitions from sealed bags, derived and rebuildable, sampled uniformly.

    replay = Replay(run / 'replay', 'state')
    report = replay.sync(run / 'episodes')
    batch = replay.sample(np.random.default_rng(0), 256, n_step=5, discount=0.99)

On disk (`<run>/replay`): `format.json`, and a folder an episode (see `replay_format`), each written in one
rename. In memory: one number an episode, and the episodes held open.

Step k of an episode holds the observation o_k, the action a_k taken there and the rewards r_k of the state
o_k. Transition k leads to k + 1: (o_k, a_k, r_{k+1}, discount_{k+1}, o_{k+1}); the last Step has no action.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chef_learning.replay_format import Layout, ReplayError, Stopped, StoredEpisode, write_episode
from chef_task import episode_file
from chef_task.bag import BagError, Episode, find_episodes
from chef_task.bag.labels import Labels, NoLabels
from chef_task.episode_file import EpisodeFile, EpisodeFileError
from chef_task.observation import FIELDS, fields_of

__all__ = ['Batch', 'Replay', 'ReplayError', 'Stopped', 'SyncReport']


@dataclass(frozen=True)
class Batch:
    """B n-step transitions, NumPy, K tasks.

    observation, next_observation: key -> [B, history, size] float32, or [B, H, W, 3] uint8 for images; the
    latter is n steps later, or the episode's last. action: float32 [B, 5]. returns: float32 [B, K], the
    discounted sums of rewards in between. discounts: float32 [B], gamma^n, 0 after a termination.
    """

    observation: dict[str, np.ndarray]
    action: np.ndarray
    returns: np.ndarray
    discounts: np.ndarray
    next_observation: dict[str, np.ndarray]


@dataclass
class SyncReport:
    """What `Replay.sync` did: episode ids added, one line for each bag that was skipped, and those that wait.

    unlabelled: episode ids without the wanted labels, told once; they are added when they have some.
    """

    added: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)


class Replay:
    """All transitions of a set of bags. One process may write; see the module's text for what is where.

    Args:
      folder: made if missing; one of another format, observation or labels is emptied, to be built anew.
      observation: 'pixels' or 'state'.
      haptics: whether batches hold forces and torques; the files always do.
      open_episodes: how many episodes are held open, each with two mappings.
      labels: rewards and tasks to learn from; None: as they were recorded.
      rewards: makes the rewards that returns are of, [..., K], from those stored, [..., `tasks`]; None: the same.

    Attributes:
      tasks: names of the tasks whose rewards are stored.

    Raises:
      ReplayError: the folder holds something else, or cannot be used.
    """

    def __init__(self, folder: str | Path, observation: str, haptics: bool = True, open_episodes: int = 256,
                 labels: Labels | None = None, rewards: Callable[[np.ndarray], np.ndarray] | None = None):
        self.folder, self._rewards = Path(folder), rewards
        self._layout = Layout(observation, labels)
        self.tasks = self._layout.tasks
        fields = fields_of(observation, haptics)
        self._histories = {k: f.history for k, f in fields.items() if f.group != 'images'}
        self._limit = open_episodes
        self._open: OrderedDict[str, StoredEpisode] = OrderedDict()
        self._skipped: dict[Path, tuple] = {}   # bags that gave nothing, with their and their labels' mtime, ns
        self._lengths: dict[str, int] = {}
        self._ids: list[str] = []
        self._ends = np.zeros(0, np.int64)
        try:
            self._prepare()
        except OSError as e:
            raise ReplayError(f'{self.folder}: cannot be used: {e.strerror}') from None
        self._reindex()

    def _prepare(self) -> None:
        """Makes the folder, empties one of another format, and lists the episodes that are sound."""
        marker, text = self.folder / 'format.json', json.dumps(self._layout.describe(), indent=1) + '\n'
        self.folder.mkdir(parents=True, exist_ok=True)
        present = marker.read_text(encoding='utf-8', errors='replace') if marker.exists() else None
        if not _is_ours(present) and any(self.folder.iterdir()):
            raise ReplayError(f'{self.folder}: holds files but no format.json of ours: not a replay')
        if present != text:
            for entry in self.folder.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
            temporary = self.folder / '.format.json.partial'
            temporary.write_text(text, encoding='utf-8')
            os.replace(temporary, marker)
        for entry in sorted(p for p in self.folder.iterdir() if p.is_dir()):
            try:
                if entry.name.startswith('.'):
                    raise ReplayError('left by a writer that was killed')
                self._lengths[entry.name] = StoredEpisode(entry, self._layout).transitions
            except ReplayError:
                shutil.rmtree(entry)          # `sync` makes it anew from its bag

    def _reindex(self) -> None:
        # by id, not by arrival: a replay that was rebuilt samples the same transitions for the same seed
        self._ids = sorted(self._lengths)
        self._ends = np.cumsum([self._lengths[i] for i in self._ids], dtype=np.int64)

    def __len__(self) -> int:
        """Number of transitions."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def episodes(self) -> tuple[str, ...]:
        """Episode ids, sorted, which is by time."""
        return tuple(self._ids)

    def append(self, path: str | Path, stop: Callable[[], bool] = lambda: False) -> int:
        """Adds a sealed bag; returns the number of transitions, 0 for an episode that is too short.

        An episode that is there already is left as it is.

        Raises:
          BagError, ReplayError: the bag is damaged or does not fit; nothing was added.
          Stopped: `stop` returned true.
        """
        is_file = Path(path).suffix == episode_file.SUFFIX      # of a simulated cell
        episode_id = Path(path).stem if is_file else Path(path).name
        if episode_id in self._lengths:
            return self._lengths[episode_id]
        episode = EpisodeFile(path) if is_file else Episode.open(path)
        count = write_episode(episode, self.folder / episode_id, self._layout, stop)
        if count:
            self._lengths[episode_id] = count
            self._reindex()
        return count

    def sync(self, folder: str | Path, stop: Callable[[], bool] = lambda: False,
             limit: int | None = None) -> SyncReport:
        """Adds the sealed bags below a folder that are new, at most `limit`; a bad one is skipped once.

        Raises:
          ReplayError: replay cannot be written (disk full).
        """
        report = SyncReport()
        found = [*find_episodes(folder), *episode_file.find(folder)] if Path(folder).is_dir() else ()
        for path in found:
            if path.name.removesuffix(episode_file.SUFFIX) in self._lengths or (limit is not None and len(report.added) >= limit):
                continue
            try:
                changed = self._changed(path)
                if self._skipped.get(path) == changed:
                    continue
                if self.append(path, stop):
                    report.added.append(path.name.removesuffix(episode_file.SUFFIX))
                else:
                    report.skipped.append(f'{path}: has no transition to learn from')
                    self._skipped[path] = changed
            except NoLabels:
                report.unlabelled.append(path.name)
                self._skipped[path] = changed
            except (BagError, EpisodeFileError, ReplayError, ValueError, KeyError) as e:
                report.skipped.append(str(e) if str(path) in str(e) else f'{path}: {e}')
                self._skipped[path] = changed
            except Stopped:
                break
            except OSError as e:
                raise ReplayError(f'{self.folder}: cannot be written: {e.strerror or e}') from None
        return report

    def _changed(self, path: Path) -> tuple:
        files = [path] + ([self._layout.labels.path(path)] if self._layout.labels else [])
        return tuple(f.stat().st_mtime_ns if f.exists() else None for f in files)

    def _episode(self, episode_id: str) -> StoredEpisode:
        episode = self._open.pop(episode_id, None) or StoredEpisode(self.folder / episode_id, self._layout)
        self._open[episode_id] = episode
        while len(self._open) > self._limit:
            self._open.popitem(last=False)
        return episode

    def sample(self, rng: np.random.Generator, batch_size: int, n_step: int, discount: float) -> Batch:
        """A batch, uniform over all transitions, with replacement, sorted by episode and step.

        Args:
          n_step: steps until a return bootstraps; fewer where the episode ends before.
          discount: gamma, per step.

        Raises:
          ReplayError: empty, or an episode's files were damaged.
        """
        if not len(self):
            raise ReplayError(f'{self.folder}: replay is empty')
        chosen = np.sort(rng.integers(0, len(self), batch_size))
        owner = np.searchsorted(self._ends, chosen, side='right')
        starts = np.concatenate([[0], self._ends])[owner]
        parts = []
        for number in np.unique(owner):
            episode = self._episode(self._ids[number])
            parts.append(self._gather(episode, (chosen - starts)[owner == number], n_step, discount))
        return _concatenate(parts)

    def _gather(self, episode: StoredEpisode, t: np.ndarray, n_step: int, discount: float) -> Batch:
        returns, discounts = n_step_returns(episode.steps['rewards'], episode.steps['discount'], t, n_step,
                                            discount, self._rewards)
        end = np.minimum(t + n_step, episode.transitions)
        return Batch(self._observe(episode, t), episode.steps['action'][t], returns, discounts,
                     self._observe(episode, end))

    def _observe(self, episode: StoredEpisode, t: np.ndarray) -> dict[str, np.ndarray]:
        out = episode.stacked(t, self._histories)
        for camera, key in enumerate(self._layout.image_keys):
            out[key] = np.stack([episode.image(int(i), camera) for i in t])
        return {k: out[k] for k in FIELDS if k in out}


def _is_ours(text: str | None) -> bool:
    try:
        value = json.loads(text or '')
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and {'format', 'observation', 'features'} <= set(value)


def n_step_returns(rewards, discounts, t, n_step: int, discount: float,
                   transform: Callable[[np.ndarray], np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns [b, K] and discounts [b] of transitions t [b], from the rewards [T + 1, K] and discounts
    [T + 1] of an episode's Steps: sum_i gamma^i D_i r_{t+1+i} and gamma^n D_n, D_i = prod_{j<i} d_{t+1+j}.
    `transform` makes other rewards of the steps' first, of any number of tasks.
    """
    last = len(rewards) - 1
    ahead = rewards[np.minimum(t[:, None] + np.arange(1, n_step + 1), last)]      # [b, n, K]
    if transform is not None:
        ahead = transform(ahead)
    out = np.zeros((len(t), ahead.shape[2]))
    factor = np.ones(len(t))
    for i in range(n_step):
        k = t + 1 + i
        inside = k <= last
        k = np.minimum(k, last)
        out += np.where(inside, factor, 0.0)[:, None] * ahead[:, i]
        factor = np.where(inside, factor * discount * discounts[k], factor)
    return out.astype(np.float32), factor.astype(np.float32)


def _concatenate(parts: list[Batch]) -> Batch:
    def join(name):
        values = [getattr(p, name) for p in parts]
        if isinstance(values[0], dict):
            return {k: np.concatenate([v[k] for v in values]) for k in values[0]}
        return np.concatenate(values)
    return Batch(*(join(n) for n in ('observation', 'action', 'returns', 'discounts', 'next_observation')))
