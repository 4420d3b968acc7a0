# SPDX-License-Identifier: Apache-2.0
"""Replay: transitions from sealed bags or files of simulated episodes, sampled uniformly or from sets by shares.

    replay = Replay(run / 'replay', 'state')
    report = replay.sync(run / 'episodes')
    batch = replay.sample(np.random.default_rng(0), 256, n_step=5, discount=0.99)

On disk (`<run>/replay`): see `replay_store`. In memory: some numbers an episode.

Step k of an episode holds the observation o_k, the action a_k taken there and the rewards r_k of the state
o_k. Transition k leads to k + 1: (o_k, a_k, r_{k+1}, discount_{k+1}, o_{k+1}); the last Step has no action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from chef_learning.replay_format import Layout, ReplayError, Stopped
from chef_learning.replay_images import KINDS, ImageReader
from chef_learning.replay_sets import check_sets, chosen, counts, filled
from chef_learning.replay_store import Store, View
from chef_task import episode_file
from chef_task.bag import BagError, Episode, find_episodes
from chef_task.bag.labels import Labels, NoLabels
from chef_task.episode_file import EpisodeFile, EpisodeFileError
from chef_task.observation import FIELDS, fields_of
from chef_task.spaces import IMAGE_SHAPE

__all__ = ['Batch', 'Replay', 'ReplayError', 'Stopped', 'SyncReport']


@dataclass(frozen=True)
class Batch:
    """B n-step transitions, NumPy (or tensors, once on a device), K tasks.

    observation, next_observation: key -> [B, history, size] float32, or [B, H, W, 3] uint8 for images; the
    latter is n steps later, or the episode's last. action: float32 [B, 5]. returns: float32 [B, K], the
    discounted sums of rewards in between. discounts: float32 [B], gamma^n, 0 after a termination.
    """

    observation: dict[str, np.ndarray]
    action: np.ndarray
    returns: np.ndarray
    discounts: np.ndarray
    next_observation: dict[str, np.ndarray]

    def of(self, part: slice) -> Batch:
        """Some of its transitions; views."""
        return self.each(lambda array: array[part])

    def copy(self) -> Batch:
        """With arrays of its own."""
        return self.each(np.copy)

    def each(self, change: Callable) -> Batch:
        """With every array replaced by what `change` makes of it."""
        values = (getattr(self, f.name) for f in fields(self))
        return Batch(*({k: change(a) for k, a in v.items()} if isinstance(v, dict) else change(v) for v in values))


@dataclass
class SyncReport:
    """What `Replay.sync` did: episode ids added, one line for each bag that was skipped, and those that wait.

    unlabelled: episode ids without the wanted labels, told once; they are added when they have some.
    """

    added: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)


class _Sets:
    """A view's episodes by set: their numbers, and where their transitions end, laid one behind the other."""

    def __init__(self, view: View, names: Sequence[str], shares: Sequence[float]):
        masks = [chosen(name, view.lines) for name in names]
        self.view = view
        self.episodes = [np.flatnonzero(m) for m in (masks if shares else [np.any(masks, axis=0)])]
        self.ends = [np.cumsum(view.transitions[e]) for e in self.episodes]
        self.sizes = [int(e[-1]) if len(e) else 0 for e in self.ends]
        self.shares = filled(names, shares, self.sizes) if shares else (1.0,)
        # what keeps a batch from being drawn
        self.missing = tuple(name for name, size in zip(names, self.sizes) if not size and not name.endswith('?')) \
            if shares else () if self.sizes[0] else tuple(names)

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Episodes [B] and their transitions [B], sorted within a set."""
        owners, starts = [], []
        for episodes, ends, count in zip(self.episodes, self.ends, counts(self.shares, batch_size)):
            picked = np.sort(rng.integers(0, ends[-1], count)) if count else np.zeros(0, np.int64)
            number = np.searchsorted(ends, picked, side='right')
            owners.append(episodes[number])
            starts.append(picked - (ends[number] - self.view.transitions[episodes[number]]))
        return np.concatenate(owners), np.concatenate(starts)


class Replay:
    """All transitions of a set of bags. One process may write, any number may read beside it; `sample` may be called in
    several threads and beside `sync`.

    Args:
      folder: made if missing; one of another format, observation, labels or kind of images is emptied, to be built anew.
      observation: 'pixels' or 'state'.
      haptics: whether batches hold forces and torques; the files always do.
      labels: rewards and tasks to learn from; None: as they were recorded.
      rewards: makes the rewards that returns are of, [..., K], from those stored, [..., `tasks`]; None: the same.
      sets, shares: which episodes a batch is drawn from, and how much of it from which; see `replay_sets`. Without
        shares each transition of the sets together is as likely.
      images: how images are kept, 'compressed' or 'raw'.
      threads: that read images, 0: `replay_images.default_threads`.
      writable: false: only read; `refresh` looks for what the writer appended.

    Attributes:
      tasks: names of the tasks whose rewards are stored.
      rebuilt: a line, if the folder was emptied since it was of another kind.

    Raises:
      ReplayError: the folder holds something else, or cannot be used.
      ValueError: sets or shares have no meaning.
    """

    def __init__(self, folder: str | Path, observation: str, haptics: bool = True, labels: Labels | None = None,
                 rewards: Callable[[np.ndarray], np.ndarray] | None = None, *, sets: Sequence[str] = ('all',),
                 shares: Sequence[float] = (), images: str = KINDS[0], threads: int = 0, writable: bool = True):
        check_sets(sets, shares)
        self.folder, self._rewards = Path(folder), rewards
        self._names, self._shares = tuple(sets), tuple(shares)
        self._layout = Layout(observation, labels, images)
        self.tasks = self._layout.tasks
        self._histories = {k: f.history for k, f in fields_of(observation, haptics).items() if f.group != 'images'}
        self._images = ImageReader(images, threads if self._layout.image_keys else 1)
        self._skipped: dict[Path, tuple] = {}   # bags that gave nothing, with their and their labels' mtime, ns
        try:
            self._store = Store(self.folder, self._layout, writable)
        except OSError as e:
            raise ReplayError(f'{self.folder}: cannot be used: {e.strerror}') from None
        self.rebuilt = f'{self.folder}: was of another kind, it is built anew' if self._store.emptied else ''
        self._found: _Sets | None = None

    @property
    def _sets(self) -> _Sets:
        """Those of the newest view: found when they are asked for, so that adding many bags costs nothing here."""
        found, view = self._found, self._store.view
        if found is None or found.view is not view:
            self._found = found = _Sets(view, self._names, self._shares)
        return found

    def refresh(self) -> None:
        """Looks for what the process that writes has appended; ReplayError if that cannot be read."""
        try:
            self._store.refresh()
        except OSError as e:
            raise ReplayError(f'{self.folder}: cannot be read: {e.strerror}') from None

    def __len__(self) -> int:
        """Number of transitions that batches are drawn from; 0 while a set that has a share, and no ?, is empty."""
        sets = self._sets
        return 0 if sets.missing else sum(sets.sizes)

    @property
    def transitions(self) -> int:
        """Number of all that are stored."""
        return int(self._store.view.transitions.sum())

    @property
    def empty_sets(self) -> tuple[str, ...]:
        """Names of the sets that hold no episode, so that no batch can be drawn."""
        return self._sets.missing

    @property
    def episodes(self) -> tuple[str, ...]:
        """Ids of all episodes that are stored, sorted, which is by time."""
        return self._store.view.ids

    def records(self, episode_id: str) -> np.ndarray:
        """The records of an episode's Steps, [T + 1] of `replay_format.Layout.dtype`; KeyError if it is not there."""
        view = self._store.view
        if episode_id not in view.ids:
            raise KeyError(episode_id)
        number = view.ids.index(episode_id)
        return view.steps[view.first[number]:view.first[number] + view.transitions[number] + 1]

    def append(self, path: str | Path, stop: Callable[[], bool] = lambda: False) -> int:
        """Adds a sealed bag or an episode file; returns the number of transitions, 0 for an episode that is too short.

        An episode that is there already is left as it is.

        Raises:
          BagError, ReplayError: the bag is damaged or does not fit; nothing was added.
          Stopped: `stop` returned true.
        """
        if not self._store.writable:
            raise ReplayError(f'{self.folder}: was opened to be read only')
        name = _id_of(Path(path))
        if name in self._store:
            return len(self.records(name)) - 1
        episode = EpisodeFile(path) if Path(path).suffix == episode_file.SUFFIX else Episode.open(path)
        return self._store.append(name, episode, stop)

    def sync(self, folder: str | Path, stop: Callable[[], bool] = lambda: False,
             limit: int | None = None) -> SyncReport:
        """Adds the sealed bags and episode files below a folder that are new, at most `limit`; a bad one is skipped once.

        Raises:
          ReplayError: replay cannot be written (disk full).
        """
        report = SyncReport()
        for path in [*find_episodes(folder), *episode_file.find(folder)] if Path(folder).is_dir() else ():
            if _id_of(path) in self._store or (limit is not None and len(report.added) >= limit):
                continue
            try:
                changed = self._changed(path)
                if self._skipped.get(path) == changed:
                    continue
                if self.append(path, stop):
                    report.added.append(_id_of(path))
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

    def sample(self, rng: np.random.Generator, batch_size: int, n_step: int, discount: float,
               empty: Callable[..., np.ndarray] = np.empty) -> Batch:
        """A batch, uniform over the transitions of each set, with replacement, sorted by set, episode and step.

        Args:
          n_step: steps until a return bootstraps; fewer where the episode ends before.
          discount: gamma, per step.
          empty: makes the arrays of images, as `np.empty` does.

        Raises:
          ReplayError: a set is empty, or replay's files were damaged.
        """
        sets = self._sets       # what another thread appends meanwhile makes new ones
        if sets.missing:
            raise ReplayError(f'{self.folder}: replay is empty' + (
                f': {", ".join(sets.missing)}' if self._names != ('all',) else ''))
        owner, t = sets.draw(rng, batch_size)
        view = sets.view
        first, last = view.first[owner], view.transitions[owner]
        ahead = t[:, None] + np.arange(1, n_step + 1)                   # [B, n]
        rows = first[:, None] + np.minimum(ahead, last[:, None])
        rewards = view.steps['rewards'][rows]
        if self._rewards is not None:
            rewards = self._rewards(rewards)
        returns, discounts = n_step_returns(rewards, view.steps['discount'][rows], ahead <= last[:, None], discount)
        both = self._observe(view, np.tile(first, 2), np.concatenate([t, np.minimum(t + n_step, last)]),
                             empty)
        return Batch({k: v[:batch_size] for k, v in both.items()}, view.steps['action'][first + t], returns, discounts,
                     {k: v[batch_size:] for k, v in both.items()})

    def _observe(self, view: View, first: np.ndarray, t: np.ndarray,
                 empty: Callable[..., np.ndarray] = np.empty) -> dict[str, np.ndarray]:
        """Observations of the steps t [B] of episodes whose records begin at first [B]."""
        longest = max(self._histories.values())
        rows = first[:, None] + np.maximum(t[:, None] + np.arange(1 - longest, 1), 0)
        out = self._layout.stacked(view.steps['features'][rows], self._histories)
        if self._layout.image_keys:
            starts, sizes = view.steps['image_start'][first + t], view.steps['image_size'][first + t]     # [B, cameras]
            images = empty((starts.shape[1], len(t), *IMAGE_SHAPE), np.uint8)
            try:
                self._images.read(view.blob, starts.T.ravel(), sizes.T.ravel(), images.reshape(-1, *IMAGE_SHAPE))
            except ValueError as e:
                raise ReplayError(f'{self.folder}: damaged: an image cannot be read: {e}') from None
            out.update(zip(self._layout.image_keys, images))
        return {k: out[k] for k in FIELDS if k in out}


def _id_of(path: Path) -> str:
    return path.name.removesuffix(episode_file.SUFFIX)


def n_step_returns(rewards: np.ndarray, discounts: np.ndarray, inside: np.ndarray, discount: float,
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Returns [B, K] and discounts [B] of transitions t from what the n steps after t hold.

    sum_i gamma^i D_i r_{t+1+i} and gamma^n D_n, D_i = prod_{j<i} d_{t+1+j}, over the steps that are `inside` the
    episode.

    Args:
      rewards: [B, n, K]. discounts, inside: [B, n].
    """
    out, factor = np.zeros((len(rewards), rewards.shape[2])), np.ones(len(rewards))
    for i in range(rewards.shape[1]):
        out += np.where(inside[:, i], factor, 0.0)[:, None] * rewards[:, i]
        factor = np.where(inside[:, i], factor * discount * discounts[:, i], factor)
    return out.astype(np.float32), factor.astype(np.float32)
