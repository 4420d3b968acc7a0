# SPDX-License-Identifier: Apache-2.0
"""One reader of image transitions in a process of its own, for `./chef bench replay --peers`.

    python _replay_readers.py NAME FOLDER '{"n_step": 5, "discount": 0.99, "batch": 256, "threads": 2}'

Asked by a line of JSON on standard input, {"do": "build", ...}, it answers by one on standard output,
{"error": "..."} where that failed; what libraries print goes to standard error. It runs in our environment or in
that of the peers, hence imports only what the named reader needs.

    idle                                {"memory"}, MiB, see `memory`
    build                               what the reader keeps beside the data set: {"seconds"}
    open                                {"seconds", "transitions"}, of what was built
    read    transitions, path           these transitions (sorted numbers) as arrays of `Reader.read`: {}
    draw    seconds                     batches for so long: {"transitions", "seconds", "memory"}, MiB

FOLDER holds `bags`; `lerobot`, their export; and `arrays`, a file of arrays an episode (see `_replay_comparison.py`).
"""

from __future__ import annotations

import abc
import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from _contestant import serve


class Reader(abc.ABC):
    """B n-step transitions at a time, from files.

    Args:
      folder: with the data set.
      n_step, discount: of the returns.
      batch: B.
      threads: threads or processes that may read.

    Attributes:
      ahead: batches that may have been drawn before they are asked for.
      module: what to import before times are taken.
    """

    module = ''

    def __init__(self, folder: Path, n_step: int, discount: float, batch: int, threads: int):
        self.folder, self.n_step, self.discount = folder, n_step, discount
        self.batch, self.threads, self.ahead = batch, threads, 0

    @abc.abstractmethod
    def build(self) -> None:
        """Writes what this reader keeps of the data set."""

    @abc.abstractmethod
    def open(self) -> int:
        """Opens what was built; returns the number of transitions."""

    @abc.abstractmethod
    def read(self, transitions: list[int]) -> dict[str, np.ndarray]:
        """Those of the sorted numbers, counted through all episodes.

        images, next_images: uint8 [B, cameras, H, W, 3]; state, next_state: float32 [B, 50], the newest step's;
        action: float32 [B, 5]; returns: float32 [B, K]; discounts: float32 [B].
        """

    @abc.abstractmethod
    def batches(self) -> Iterator[object]:
        """Batches of transitions uniformly at random, in the form that this reader hands them to a learner."""


class Ours(Reader):
    """chef_learning.replay."""

    module, kind = 'chef_learning.replay', 'compressed'

    def _replay(self, **kwargs):
        from chef_learning.replay import Replay
        return Replay(self.folder / f'replay_{self.kind}', 'pixels', images=self.kind, threads=self.threads, **kwargs)

    def build(self) -> None:
        report = self._replay().sync(self.folder / 'bags')
        if report.skipped:
            raise ValueError(report.skipped[0])

    def open(self) -> int:
        self._opened = self._replay(writable=False)
        return len(self._opened)

    def read(self, transitions):
        from chef_task.bag.lerobot_rows import STATE
        from chef_task.spaces import CAMERAS

        batch = self._opened.sample(_Given(transitions), len(transitions), self.n_step, self.discount)
        out = {'action': batch.action, 'returns': batch.returns, 'discounts': batch.discounts}
        for prefix, seen in (('', batch.observation), ('next_', batch.next_observation)):
            out[prefix + 'images'] = np.stack([seen[f'image_{c}'] for c in CAMERAS], 1)
            out[prefix + 'state'] = np.concatenate([seen[k][:, -1] for k in STATE], -1)
        return out

    def batches(self):
        rng = np.random.default_rng(0)
        while True:
            yield self._opened.sample(rng, self.batch, self.n_step, self.discount)


class OursRaw(Ours):
    """The same with images as they are."""

    kind = 'raw'


class _Given:
    """Stands for a generator where the numbers are not to be random."""

    def __init__(self, numbers):
        self._numbers = np.asarray(numbers, np.int64)

    def integers(self, low, high, count):
        return self._numbers


class LeRobotRows(Reader):
    """LeRobotDataset row by row, the returns worked out once; batches by torch's DataLoader, a worker a thread.

    Faster than windows (`LeRobot`), which decode the pictures of every row that any of their columns is asked of.
    """

    module = 'lerobot.datasets.lerobot_dataset'

    def _dataset(self, **kwargs):
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        return LeRobotDataset('chef/export', root=self.folder / 'lerobot', **kwargs)

    def build(self) -> None:
        self._dataset()     # writes the Arrow files that it maps from then on

    def open(self) -> int:
        self._opened = self._dataset()
        self._cameras = list(self._opened.meta.camera_keys)
        columns = self._opened.hf_dataset.with_format('numpy').select_columns(
            ['next.rewards', 'next.done', 'next.truncated', 'episode_index'])[:]
        rewards, done, truncated, episode = (np.asarray(c) for c in columns.values())
        last = np.searchsorted(episode, episode, side='right') - 1
        ahead = np.arange(len(episode))[:, None] + np.arange(self.n_step)                   # [N, n]
        inside = ahead <= last[:, None]
        ahead = np.minimum(ahead, last[:, None])
        weights = inside * self.discount ** np.arange(self.n_step)
        self._returns = np.einsum('nik,ni->nk', rewards[ahead], weights).astype(np.float32)
        terminated = (inside & done[ahead] & ~truncated[ahead]).any(1)
        self._discounts = (self.discount ** inside.sum(1) * ~terminated).astype(np.float32)
        self._then = np.minimum(np.arange(len(episode)) + self.n_step, last)    # there is no row of the last state
        return len(self._opened)

    def __len__(self) -> int:
        return len(self._opened)

    def __getitem__(self, i: int) -> tuple:
        return self._opened[i], self._opened[int(self._then[i])], self._returns[i], self._discounts[i]

    def read(self, transitions):
        from torch.utils.data import default_collate

        now, then, returns, discounts = default_collate([self[i] for i in transitions])
        return {**self._seen(now, ''), **self._seen(then, 'next_'), 'action': now['action'].numpy(),
                'returns': returns.numpy(), 'discounts': discounts.numpy()}

    def _seen(self, rows: dict, prefix: str) -> dict[str, np.ndarray]:
        # of LeRobot: [B, 3, H, W] float32 in [0, 1]
        images = [(rows[c] * 255).round().byte().permute(0, 2, 3, 1).numpy() for c in self._cameras]
        return {prefix + 'images': np.stack(images, 1), prefix + 'state': rows['observation.state'].numpy()}

    def batches(self):
        from torch.utils.data import DataLoader

        workers = self.threads if self.threads > 1 else 0
        self.ahead = workers
        yield from DataLoader(self, self.batch, sampler=_Uniform(len(self)), num_workers=workers)


class LeRobot(LeRobotRows):
    """LeRobotDataset with windows by `delta_timestamps`: of pictures and states now and n steps later, of rewards."""

    def open(self) -> int:
        from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata

        meta = LeRobotDatasetMetadata('chef/export', root=self.folder / 'lerobot')
        now_and_then, window = [0.0, self.n_step / meta.fps], [i / meta.fps for i in range(self.n_step)]
        self._cameras = list(meta.camera_keys)
        self._opened = self._dataset(delta_timestamps={
            **{k: now_and_then for k in (*self._cameras, 'observation.state')},
            **{k: window for k in ('next.rewards', 'next.done', 'next.truncated')}})
        return len(self._opened)

    def __getitem__(self, i: int) -> tuple:
        import torch

        row = self._opened[i]
        inside = ~row['next.rewards_is_pad']                                                # [n]
        weights = inside * self.discount ** torch.arange(self.n_step, dtype=torch.float32)
        terminated = (inside & row['next.done'].reshape(-1) & ~row['next.truncated'].reshape(-1)).any()
        both = [{**row, **{k: row[k][j] for k in (*self._cameras, 'observation.state')}} for j in (0, 1)]
        return *both, weights @ row['next.rewards'], self.discount ** inside.sum().float() * ~terminated


class _Uniform:
    """Numbers below size uniformly at random, without an end; torch's sampler makes all of them first."""

    def __init__(self, size: int):
        self._size = size

    def __iter__(self):
        rng = np.random.default_rng(0)
        while True:
            yield from rng.integers(0, self._size, 1024).tolist()


class TorchRL(Reader):
    """ReplayBuffer on a LazyMemmapStorage; whole episodes go through MultiStep before they are added.

    Two batches a thread are drawn ahead: on two cores twice as fast as none; more was not tried.
    """

    module = 'torchrl.data'

    def _buffer(self, size: int, prefetch: int | None = None):
        from torchrl.data import LazyMemmapStorage, ReplayBuffer

        storage = LazyMemmapStorage(size, scratch_dir=self.folder / 'torchrl' / 'storage')
        return ReplayBuffer(storage=storage, batch_size=self.batch, prefetch=prefetch)

    def build(self) -> None:
        import torch
        from tensordict import TensorDict
        from torchrl.data.postprocs import MultiStep

        n_step = MultiStep(self.discount, self.n_step)
        files = sorted((self.folder / 'arrays').glob('*.npz'))
        buffer = self._buffer(sum(len(np.load(f)['action']) for f in files))
        for file in files:
            a = {k: torch.from_numpy(v) for k, v in np.load(file).items()}
            count = len(a['action'])
            end = torch.arange(count)[:, None] == count - 1
            episode = TensorDict({
                'images': a['images'][:-1], 'state': a['state'][:-1], 'action': a['action'],
                'next': {'images': a['images'][1:], 'state': a['state'][1:], 'reward': a['rewards'][1:],
                         'discount': a['discount'][1:], 'done': end}}, batch_size=[count])
            done = n_step(episode).exclude(('next', 'original_reward'), 'nonterminal')
            buffer.extend(done)
        (self.folder / 'torchrl').mkdir(exist_ok=True)
        buffer.dumps(self.folder / 'torchrl')
        (self.folder / 'torchrl' / 'size.json').write_text(json.dumps(len(buffer)))

    def open(self) -> int:
        import torch

        torch.set_num_threads(self.threads)
        self.ahead = 2 * self.threads
        size = json.loads((self.folder / 'torchrl' / 'size.json').read_text())
        self._opened = self._buffer(size, self.ahead)
        self._opened.loads(self.folder / 'torchrl')
        return len(self._opened)

    def read(self, transitions):
        rows = self._opened[transitions]
        after = rows['next']
        return {'images': rows['images'].numpy(), 'state': rows['state'].numpy(), 'action': rows['action'].numpy(),
                'next_images': after['images'].numpy(), 'next_state': after['state'].numpy(),
                'returns': after['reward'].numpy(),
                'discounts': (rows['gamma'].reshape(-1) * after['discount'].reshape(-1)).float().numpy()}

    def batches(self):
        while True:
            yield self._opened.sample()


READERS = {'ours': Ours, 'ours_raw': OursRaw, 'lerobot': LeRobot, 'lerobot_rows': LeRobotRows, 'torchrl': TorchRL}


def memory() -> float:
    """Memory of this process and those it started that is not files' (the system's to drop), MiB.

    By proportional shares, since what workers inherit is counted once.
    """
    total, processes = 0, [os.getpid()]
    while processes:
        pid = processes.pop()
        with contextlib.suppress(OSError):      # it has ended meanwhile
            for children in Path(f'/proc/{pid}/task').glob('*/children'):
                processes += map(int, children.read_text().split())
            for line in Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines():
                if line.startswith(('Pss_Anon:', 'Pss_Shmem:')):
                    total += int(line.split()[1])
    return total / 1024


def draw(reader: Reader, seconds: float) -> dict[str, float]:
    """Draws batches for so long, at least two; what was drawn ahead at the start is not counted."""
    batches = reader.batches()
    with contextlib.closing(batches):       # workers end here, not in the next reader's turn
        next(batches)
        for _ in range(reader.ahead):
            next(batches)
        count, start = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - start < seconds:
            batch = next(batches)
            count += 1
        elapsed = time.perf_counter() - start
        used = memory()     # while a batch is alive
        del batch
    return {'transitions': count * reader.batch, 'seconds': elapsed, 'memory': used}


def answer(reader: Reader, request: dict) -> dict:
    """What the module's head says of a request."""
    start = time.perf_counter()
    if request['do'] == 'build':
        reader.build()
        return {'seconds': time.perf_counter() - start}
    if request['do'] == 'idle':
        return {'memory': memory()}
    if request['do'] == 'open':
        transitions = reader.open()
        return {'seconds': time.perf_counter() - start, 'transitions': transitions}
    if request['do'] == 'read':
        np.savez(request['path'], **reader.read(request['transitions']))
        return {}
    if request['do'] == 'draw':
        return draw(reader, request['seconds'])
    raise ValueError(f'cannot do {request["do"]!r}')


def main(name: str, folder: str, options: str) -> int:
    settings = json.loads(options)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:settings['threads']])
    reader = READERS[name](Path(folder), **settings)
    importlib.import_module(reader.module)      # not part of the time to open
    return serve(lambda request: answer(reader, request))


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
