# SPDX-License-Identifier: Apache-2.0
"""Episodes on tracked poses: runs the graph on fakes and compares what the tracker said with what the world knew.

    ./chef bench tracked [FOLDER] [--cell config/cells/sawyer.yaml] [--episodes 3] [--more observation:=state ...]

Every pose of the bags is compared with the true one at the same stamp. Pictures are stamped when they arrive, so an
object that moves is where it was a little before: the delay that explains most is given too. Left out are the 0.3 s after
the world itself has put an object elsewhere, which nothing real does, or it fell. FOLDER has to be new.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tests'))

from harness import Graph  # noqa: E402

from chef_sim.client import DeviceClient  # noqa: E402
from chef_task.bag.files import find_episodes  # noqa: E402
from chef_task.bag.reader import Episode  # noqa: E402
from chef_task.spaces import OBJECTS  # noqa: E402

MOVING_M_S = 0.01
DELAYS_MS = range(0, 301, 10)
JUMP_M, GAP_NS, SETTLED_NS = 0.03, 200_000_000, 300_000_000
EPISODE_S = 400.0       # for each: a reset by moving the robot, its pauses, and the episode


class Truth:
    """What the world says of its objects, from `with` on: positions at any time."""

    def __init__(self, socket: str):
        self._stamps, self._places, self._lock = [], [], threading.Lock()
        self._client = DeviceClient(socket, 'truth', ('objects',), on_batch=self._on_batch)

    def _on_batch(self, samples: list[dict]) -> None:
        with self._lock:
            for s in samples:
                self._stamps.append(s['stamp'])
                self._places.append(np.array(s['poses'], float)[:, :3])

    def close(self) -> None:
        self._client.close()

    @property
    def lost(self) -> str:
        return self._client.lost

    def comparable(self, stamps: np.ndarray) -> np.ndarray:
        """[N], whether there is a truth at these times that is no jump, nor was one just before."""
        known, places = np.array(self._stamps), np.array(self._places)
        jumps = known[1:][(np.linalg.norm(np.diff(places, axis=0), axis=-1) > JUMP_M).any(1) | (np.diff(known) > GAP_NS)]
        last = jumps[np.clip(np.searchsorted(jumps, stamps + 50_000_000) - 1, 0, None)] if len(jumps) else np.array([0])
        return (stamps > known[0]) & (stamps < known[-1]) & ~((stamps >= last - GAP_NS) & (stamps < last + SETTLED_NS))

    def at(self, stamps: np.ndarray) -> np.ndarray:
        """[N, 3 objects, 3] m, linear between samples."""
        known, places = np.array(self._stamps), np.array(self._places)
        return np.stack([np.stack([np.interp(stamps, known, places[:, i, k]) for k in range(3)], -1)
                         for i in range(len(OBJECTS))], 1)


def figures(errors: np.ndarray) -> str:
    """Of errors in m: median, 95 %, largest, in mm."""
    return ' | '.join(f'{v:.1f}' for v in 1e3 * np.percentile(errors, [50, 95, 100])) if len(errors) else '- | - | -'


def table(stamps: np.ndarray, tracked: np.ndarray, truth: Truth) -> str:
    """tracked: [N, 3, 3] m at the stamps, ns; NaN where an object was not seen."""
    def errors(delay_ms: int) -> np.ndarray:
        return np.linalg.norm(tracked - truth.at(stamps - delay_ms * 1_000_000), axis=-1)

    there = truth.at(stamps)
    speed = np.linalg.norm(truth.at(stamps + 25_000_000) - truth.at(stamps - 25_000_000), axis=-1) / 0.05
    now, seen, moving = errors(0), np.isfinite(tracked).all(-1), speed > MOVING_M_S
    best = min(DELAYS_MS, key=lambda ms: np.mean(errors(ms)[seen & moving])) if (seen & moving).any() else 0
    lines = ['| object | poses | none | at rest: median, mm | p95 | largest | moving: poses | median, mm | p95 | largest '
             f'| against {best} ms before: median, mm | p95 | largest |', '|---' * 13 + '|']
    for name, at in [*((n, np.arange(3) == i) for i, n in enumerate(OBJECTS)), ('all', np.ones(3, bool))]:
        s, m = seen & at, moving & at
        lines.append(f'| {name} | {len(there) * at.sum()} | {(~seen & at).sum()} | {figures(now[s & ~m])} '
                     f'| {(s & m).sum()} | {figures(now[s & m])} | {figures(errors(best)[s & m])} |')
    return '\n'.join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench tracked', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, nargs='?', help='of the run (default: one that is removed)')
    parser.add_argument('--cell', type=Path, default=ROOT / 'config' / 'cells' / 'sawyer.yaml')
    parser.add_argument('--episodes', type=int, default=3)
    parser.add_argument('--more', nargs='*', default=[], metavar='NAME:=VALUE', help='arguments of the launch file')
    options = parser.parse_args()
    if options.episodes < 1 or any(':=' not in word for word in options.more):
        parser.error('--episodes must be positive, and --more NAME:=VALUE')
    with tempfile.TemporaryDirectory() as folder:
        run = (options.folder or Path(folder) / 'run').resolve()
        if run.exists():
            parser.error(f'{run} exists')
        run.parent.mkdir(parents=True, exist_ok=True)
        arguments = {'cell': options.cell.resolve(), 'fake_devices': 'true', 'episodes': options.episodes,
                     'policy': 'random', 'learner': 'false', **dict(word.split(':=', 1) for word in options.more)}
        with Graph(run, **arguments) as graph:
            graph.wait_for(r'\[manager\] INFO active', 120.0)      # before the first episode
            (path,) = (run / 'logs').glob('*/parameters.yaml')
            nodes = yaml.safe_load(path.read_text())
            truth = Truth(next(v for n, v in nodes.items() if n.endswith('/world'))['ros__parameters']['world_socket'])
            code = graph.wait(options.episodes * EPISODE_S)
            if truth.lost:
                print(f'the truth ended: {truth.lost}', file=sys.stderr)
            truth.close()
            np.savez(run / 'truth.npz', stamps=truth._stamps, places=truth._places)
        print('\n'.join(line for line in graph.lines if '[collect]' in line))
        stamps, tracked = [], []
        for bag in find_episodes(run / 'episodes'):
            series = Episode.open(bag).series('objects')
            stamps.append(series.stamps)
            tracked.append(series.values['poses'][..., :3])
            print(f'{bag.name}: {Episode.open(bag).record.termination_reason}')
    if not stamps:
        print('nothing was collected', file=sys.stderr)
        return 1
    stamps, tracked = np.concatenate(stamps), np.concatenate(tracked)
    good = truth.comparable(stamps)
    print(f'{len(stamps)} sets of poses, {len(stamps) - good.sum()} left out')
    print(table(stamps[good], tracked[good], truth))
    return code


if __name__ == '__main__':
    raise SystemExit(main())
