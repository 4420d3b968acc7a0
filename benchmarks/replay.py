# SPDX-License-Identifier: Apache-2.0
"""Replay's speed: batches of transitions from state features and from images, and whether their cost stays flat.

    ./chef bench replay [--batch 256] [--seconds 10] [--largest 7]
    ./chef bench replay --peers [--batch 64] [--seconds 10] [--rounds 5] [--threads 2]

First table: batches as the pixel learner draws them (three cameras of 128 x 128, now and n steps later), of made-up
episodes with pictures of a moving scene, images compressed and raw, with one thread and two. Second: state features,
10^4 to 10^LARGEST transitions; the episodes are copies of one that the real writer made, as records and lines of the
real files. All of it lies in the page cache: on a machine whose memory is smaller than its replay every transition is a
read of the disk besides.

With --peers: the same image transitions from our replay, from LeRobot's dataset loader and from torchrl's memory-mapped
buffer, in turns; the two are installed for that on first use, in an environment of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from chef_learning.replay import Replay
from chef_learning.replay_store import INDEX, STEPS
from chef_task.bag.synthetic import write_synthetic_episode

N_STEP, DISCOUNT = 5, 0.99
EPISODE_STEPS = 400


def memory() -> float:
    """Private memory of this process, MiB: what maps files is the system's to drop."""
    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines() if ':' in line)
    return int(status['RssAnon'].split()[0]) / 1024


def measure(replay: Replay, batch: int, seconds: float) -> float:
    """s a batch, the median."""
    rng, times = np.random.default_rng(0), []
    replay.sample(rng, batch, N_STEP, DISCOUNT)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        replay.sample(rng, batch, N_STEP, DISCOUNT)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def size_of(folder: Path) -> float:
    """MB."""
    return sum(p.stat().st_size for p in folder.iterdir()) / 1e6


def images(folder: Path, batch: int, seconds: float) -> None:
    for number in range(4):
        write_synthetic_episode(folder / 'bags', number, 100, 'pixels')
    print(f'| images | threads | batches of {batch}, 1/s | transitions/s | open, ms | disk, kB a step | memory, MiB |')
    print('|---|---|---|---|---|---|---|')
    for kind in ('compressed', 'raw'):
        for threads in (1, 2):
            Replay(folder / kind, 'pixels', images=kind).sync(folder / 'bags')
            before, start = memory(), time.perf_counter()
            replay = Replay(folder / kind, 'pixels', images=kind, threads=threads)
            opened = time.perf_counter() - start
            each = measure(replay, batch, seconds)
            steps = len(replay) + len(replay.episodes)
            print(f'| {kind} | {threads} | {1 / each:.2f} | {batch / each:.0f} | {1e3 * opened:.1f} '
                  f'| {1e3 * size_of(folder / kind) / steps:.1f} | {memory() - before:.0f} |', flush=True)


def grow(folder: Path, transitions: int) -> None:
    """Copies of the first episode until there are so many, as the files of replay hold them."""
    steps, index = folder / STEPS, folder / INDEX
    line = json.loads(index.read_text().splitlines()[0])
    records = steps.read_bytes()[:steps.stat().st_size // len(index.read_text().splitlines())]
    there = len(index.read_text().splitlines())
    with open(steps, 'ab') as f, open(index, 'a', encoding='utf-8') as g:
        for number in range(there, -(-transitions // EPISODE_STEPS)):
            f.write(records)
            g.write(json.dumps({**line, 'id': f'copy_{number:08d}'}) + '\n')


def flat(folder: Path, batch: int, seconds: float, largest: int) -> None:
    bags = folder / 'state_bags'
    write_synthetic_episode(bags, 0, EPISODE_STEPS, 'state')
    Replay(folder / 'flat', 'state').sync(bags)
    print('\n| transitions | episodes | microseconds a sampled transition | open, s | disk, GB | memory, MiB |')
    print('|---|---|---|---|---|---|')
    for power in range(4, largest + 1):
        grow(folder / 'flat', 10**power)
        before, start = memory(), time.perf_counter()
        replay = Replay(folder / 'flat', 'state')
        opened = time.perf_counter() - start
        each = measure(replay, batch, seconds)
        print(f'| 10^{power} | {len(replay.episodes)} | {1e6 * each / batch:.1f} | {opened:.2f} '
              f'| {size_of(folder / "flat") / 1e3:.2f} | {memory() - before:.0f} |', flush=True)
        del replay


def peers(options: argparse.Namespace) -> int:
    """`--peers`; the exit status, 2 where the peers cannot be installed."""
    import _replay_comparison as comparison
    from chef_bringup.setup import SetupError, benchmarks

    try:
        python = benchmarks.ensure_here('replay_peers', '8 GB', '--peers needs a checkout, to install them in')
    except SetupError as e:
        print(f'replay: {e}', file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as folder:
            comparison.run(Path(folder), python, benchmarks.variables(), episodes=options.episodes, steps=options.steps,
                           batch=options.batch, rounds=options.rounds, seconds=options.seconds,
                           threads=options.threads, n_step=N_STEP, discount=DISCOUNT)
    except comparison.ComparisonError as e:
        print(f'replay: {e}', file=sys.stderr)
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench replay', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, help='transitions (default: 256; --peers: 64)')
    parser.add_argument('--seconds', type=float, default=10.0, help='for each row or turn (default: %(default)s)')
    parser.add_argument('--largest', type=int, default=7, choices=range(4, 9),
                        help='power of ten; 7 needs 6 GB of disk (default: %(default)s)')
    peer = parser.add_argument_group('with --peers')
    peer.add_argument('--peers', action='store_true', help='beside LeRobot and torchrl; installs 8 GB on first use')
    peer.add_argument('--rounds', type=int, default=5, help='turns of each (default: %(default)s)')
    peer.add_argument('--threads', type=int, default=2, help='cores, threads, workers (default: %(default)s)')
    peer.add_argument('--episodes', type=int, default=8, help='in the data set (default: %(default)s)')
    peer.add_argument('--steps', type=int, default=200, help='of an episode (default: %(default)s)')
    options = parser.parse_args()
    options.batch = options.batch or (64 if options.peers else 256)
    if options.peers:
        return peers(options)
    with tempfile.TemporaryDirectory() as folder:
        images(Path(folder), options.batch, options.seconds)
        flat(Path(folder), options.batch, options.seconds, options.largest)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
