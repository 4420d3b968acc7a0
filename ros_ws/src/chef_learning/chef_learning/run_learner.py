# SPDX-License-Identifier: Apache-2.0
"""The whole of learning in one run: syncs bags, updates, publishes versions, checkpoints.

Beside a cell that collects (nodes/learner_node.py) and offline (train.py) alike:

    with RunLearner(config, run_dir, seed=0, stop=lambda: asked) as learner:
        while not asked:
            learner.work()
            for event in learner.take_events():
                print(event)
        learner.save()

In `<run_dir>`: reads `episodes/` (or other bags), writes `replay/`, `policies/` and
`learner/` (metrics.jsonl, tensorboard/, checkpoints/, lock). Of several processes that train together
(chef_learning.parallel) the first writes, and all read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from chef_learning import checkpoint, policy_files
from chef_learning.ahead import Ahead
from chef_learning.config import LearnerConfig
from chef_learning.domain import rgb_stacking
from chef_learning.learner import Learner
from chef_learning.metrics import MetricsWriter
from chef_learning.parallel import ParallelError, process_rank
from chef_learning.readers import Draw
from chef_learning.replay import Batch, Replay, ReplayError
from chef_learning.tasks import Rewards, choose
from chef_task.bag.disk import lock_writing
from chef_task.bag.labels import LabelError, Labels
from chef_task.rewards import TASKS


_AT_A_TIME = 16     # bags, between two words to the other processes


class RunLocked(Exception):
    """Another learner works in this run; the text is one line that names it."""


class RunLearner:
    """The one learner of a run; resumes where an earlier one of the run stopped.

    Args:
      config: see `LearnerConfig`.
      run_dir: of the run, made if missing.
      seed: of the networks, the batches and the sampled actions, unless a checkpoint knows better.
      publish_period_s: s between two policy versions; the first follows the first update. Infinite: only by `publish`.
      checkpoint_period_s: s between two checkpoints.
      bags: folders to look for sealed bags in; `<run_dir>/episodes` if not given.
      sync_period_s: s between two looks for new bags.
      stop: asked often; true makes `work` return within an update.
      device: a torch device, or 'auto': a GPU if there is one.

    Attributes:
      stopped: whether the last `sync` or `work` was asked to stop, any of the processes that train together.
      first: whether this process writes; true if it is alone.
      version: name of the newest policy version, 'v000000' if there is none.
      labels: name and hash of the labels that are learned from, empty if rewards are those of the bags.

    Raises:
      RunLocked, ReplayError, CheckpointError, ParallelError, OSError: it cannot start; nothing was changed.
    """

    def __init__(self, config: LearnerConfig, run_dir: str | Path, seed: int = 0, *,
                 publish_period_s: float = 5.0, checkpoint_period_s: float = 60.0,
                 bags: str | Path | Sequence[str | Path] | None = None, sync_period_s: float = 0.5,
                 stop: Callable[[], bool] = lambda: False, device: str = 'cpu'):
        self.config, self.run_dir = config, Path(run_dir)
        folders = [bags or self.run_dir / 'episodes'] if bags is None or isinstance(bags, (str, Path)) else bags
        self._bags, self._sync_s = tuple(map(Path, folders)), sync_period_s
        self._events: list[str] = []
        self._stop, self._publish_s, self._checkpoint_s = stop, publish_period_s, checkpoint_period_s
        self._folder = self.run_dir / 'learner'
        self._policies = self.run_dir / 'policies'
        labels = _find_labels(config.replay.labels, self._bags[0])
        self.labels = f'{labels.name} {labels.definition[:16]}' if labels else ''
        self._lock = _lock(self._folder) if process_rank() == 0 else None
        self._metrics = self._ahead = self.learner = self.replay = None
        self.stopped = False
        try:
            tasks, rewards = _choose(config.tasks, labels.tasks if labels else TASKS)
            domain = rgb_stacking(config.observation, config.haptics, tasks)
            self.learner = Learner(config, seed, device, domain, self.labels)
            self._parallel = self.learner.parallel
            share = self._parallel.share(config.batch_size) if self._parallel.size > 1 else None
            self._like = Draw(config.batch_size, config.n_step, config.discount, share)
            path, problems = checkpoint.resume(self.learner, self._folder / 'checkpoints')
            # last: it empties a replay of other labels, which a refused checkpoint may still need
            kept = config.replay
            self._replay = partial(Replay, self.run_dir / 'replay', config.observation, haptics=config.haptics, labels=labels,
                                   rewards=rewards, sets=kept.sets, shares=kept.shares, images=kept.images)
            if self.first:      # the others read what it has written, see `sync`
                self.replay = self._open_replay()
                self._events += [self.replay.rebuilt] if self.replay.rebuilt else []
                self._metrics = MetricsWriter(self._folder)
            if config.prefetch or kept.readers:
                self._ahead = Ahead(self.learner, lambda: self.replay, self._like,
                                    partial(self._replay, threads=1, writable=False))
        except BaseException:
            self.close()
            raise
        self._events += [f'{p}; falling back to the one before' for p in problems]
        if path is not None:
            self._events.append(f'resumed from {path}, {self.learner.updates} updates')
        there = policy_files.versions(self._policies)
        self.version = there[-1].name if there else policy_files.NO_VERSION
        self._synced = self._published = self._saved = float('-inf')
        self._saved_update = self.learner.updates
        # One that was stopped between its last update and publishing has that still to do. What has learned less than the
        # newest policy, as after the loss of a disk, is not for the cells.
        self._published_update = _updates_of(there[-1]) if there else 0
        if self._published_update > self.updates:
            self._events.append(f'publishes nothing before {self._published_update} updates, which {self.version} has in '
                                f'{self._policies}')

    def __enter__(self) -> RunLearner:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    @property
    def updates(self) -> int:
        return self.learner.updates

    def _open_replay(self) -> Replay:
        return self._replay(threads=self.config.replay.threads, writable=self.first)

    def read_replay(self, sets: Sequence[str], tasks: str, haptics: bool) -> Replay:
        """The same episodes to look at: batches from other sets, and returns of other tasks, named as in the configuration.

        Raises:
          ReplayError: those rewards were not recorded.
        """
        _, rewards = _choose(tasks, self.replay.tasks)
        return self._replay(haptics=haptics, rewards=rewards, sets=sets, shares=(), threads=1, writable=False)

    @property
    def first(self) -> bool:
        return self._parallel.first

    def take_events(self) -> list[str]:
        """What happened since the last call and is worth a line in the log."""
        events, self._events = self._events, []
        return events

    def work(self) -> bool:
        """One slice: at most one new bag and one update; false where there is nothing to do but wait.

        Processes that train together look for bags in `sync` only.

        Raises:
          ParallelError: one of the processes that train together is gone.
          ReplayError, OSError: the disk is full or gone, or replay was damaged; also where that was noticed by
            the thread that draws ahead.
          FloatingPointError: learning diverged.
        """
        busy = False
        if self._parallel.size == 1 and time.monotonic() - self._synced >= self._sync_s:
            busy = self._add_bags(limit=1)
            if not busy:      # else a further bag may wait: look again in the next slice
                self._synced = time.monotonic()
        self.stopped = self._parallel.any(self._stop())     # all stop after the same update
        if self.ready and not self.stopped:
            self._update()
            busy = True
            now = time.monotonic()
            if now - self._published >= self._publish_s < float('inf'):
                self.publish()
            if now - self._saved >= self._checkpoint_s:
                self.save()
        return busy

    def sync(self) -> None:
        """Adds all new bags; of several processes the first does, and the others then read the same replay."""
        if self._parallel.size == 1:
            self._add_bags()
        else:
            # a few at a time: nobody waits longer than for these
            while self._parallel.any(self.first and self._add_bags(limit=_AT_A_TIME)):
                pass
            if not self.first:
                self.replay = self._open_replay()
            if not self._parallel.same(len(self.replay)):
                raise ParallelError(f'{self.replay.folder}: the processes see different replays; is the disk shared?')
        self.stopped = self._parallel.any(self._stop())

    def _add_bags(self, limit: int | None = None) -> bool:
        """Adds new bags, at most `limit`; whether there were any."""
        return any([self._add_bags_of(folder, limit) for folder in self._bags])

    def _add_bags_of(self, folder: Path, limit: int | None) -> bool:
        report = self.replay.sync(folder, self._stop, limit)
        self._events += [f'skipped {line}' for line in report.skipped]
        if report.unlabelled:
            self._events.append(f'skipped {len(report.unlabelled)} without labels {self.config.replay.labels}: '
                                f'{_some(report.unlabelled)}')
        if report.added:
            self._events.append(f'added {_some(report.added)}: {len(self.replay.episodes)} episodes, '
                                f'{self.replay.transitions} transitions')
            self._events += [f'waiting for episodes of the set {name}' for name in self.replay.empty_sets]
        return bool(report.added)

    @property
    def ready(self) -> bool:
        """Whether there is enough data to learn from."""
        return self.replay is not None and len(self.replay) >= self.config.replay.min_transitions

    def _update(self) -> None:
        config = self.config
        start = time.perf_counter()
        batch = self._batch()
        sampled = time.perf_counter()
        metrics = self.learner.step(batch)
        if self.first and (self.updates == 1 or self.updates % config.metrics_period == 0):
            end = time.perf_counter()
            self._metrics.write(self.updates, {
                'sample_ms': round(1e3 * (sampled - start), 3), 'update_ms': round(1e3 * (end - sampled), 3),
                'episodes': len(self.replay.episodes), 'transitions': self.replay.transitions, **metrics})

    def _batch(self) -> Batch:
        """Of the next update, on the learner's device."""
        if self._ahead is not None:
            return self._ahead.take()
        return self.learner.upload(self._like.sample(self.replay, self.learner.batch_rng()))

    def publish(self) -> None:
        """A policy version, if there was an update since the last."""
        self.learner.settle()
        if self.first and self.updates > self._published_update:
            self.version = policy_files.save_version(
                self._policies, self.learner.actor, self.config, self.updates, self.learner.domain.tasks,
                self.labels).name
            self._published, self._published_update = time.monotonic(), self.updates
            self._events.append(f'published {self.version} after {self.updates} updates')

    def save(self) -> None:
        """A checkpoint, if there was an update since the last."""
        self._saved = time.monotonic()
        if self.first and self.updates > self._saved_update:
            checkpoint.save(self.learner, self._folder / 'checkpoints')
            self._saved_update = self.updates

    def close(self) -> None:
        """Closes files and gives the run free; saves nothing. Waits for the thread, at most `prefetch.JOIN_S`."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self.learner is not None:
            self.learner.parallel.close()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _updates_of(version: Path) -> int:
    """After how many a policy version was made, 0 if it cannot be read."""
    try:
        return policy_files.read_info(version).updates
    except policy_files.PolicyError:
        return 0


def _some(names: list[str]) -> str:
    return ', '.join(names[:3]) + ' ...' * (len(names) > 3)


def _find_labels(version: str, bags: Path) -> Labels | None:
    try:
        return Labels.find(version, bags) if version else None
    except LabelError as e:
        raise ReplayError(e) from None


def _choose(kind: str, recorded: tuple[str, ...]) -> tuple[tuple[str, ...], Rewards | None]:
    try:
        return choose(kind, recorded)
    except ValueError as e:
        raise ReplayError(e) from None


def _lock(folder: Path) -> int:
    """A lock that the system releases when the process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / 'lock', os.O_RDWR | os.O_CREAT, 0o644)
    if not lock_writing(fd):
        owner = os.read(fd, 20).decode(errors='replace').strip() or 'unknown'
        os.close(fd)
        raise RunLocked(f'{folder}: another learner works here, process {owner}')
    os.truncate(fd, 0)
    os.write(fd, f'{os.getpid()}\n'.encode())
    return fd
