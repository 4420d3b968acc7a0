# SPDX-License-Identifier: Apache-2.0
"""Speed of the learner beside its floor: the same networks forwards and backwards on data already in place.

    ./chef bench learner [--only state,small,large] [--batch 256] [--seconds 20] [--device auto] [--compile auto]

Rows: state features, the small and the large image network (CHEF paper, section VII.B). `floor` is forward and
backward of the networks, the target critic on as many sampled actions, on one batch that stays in memory, without
losses, statistics or optimisers; `update` is `Learner.step` on that batch; `replay` draws every batch from a replay
built of bags, `ahead` as the learner of a run does: in processes of their own (setting `replay.readers`) on a GPU, in a
thread elsewhere (setting `prefetch`). In turn, several times, so that the machine's moods hit all alike; the ratios are
of medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from chef_learning.ahead import Ahead
from chef_learning.capture import Captured
from chef_learning.config import LearnerConfig
from chef_learning.learner import Learner
from chef_learning.packed import Packed
from chef_learning.readers import Draw
from chef_learning.replay import Batch, Replay
from chef_task.bag.synthetic import write_synthetic_episode

NETWORKS = {
    'state': ('state', {'encoder': 256, 'torso': [256, 256], 'head': [256]}),
    'small': ('pixels', {'channels': [16, 32, 32], 'embedding': 32, 'head': [256]}),
    'large': ('pixels', {'channels': [64, 128, 128, 64], 'embedding': 256, 'head': [256]}),
}
PAPER_DAYS, UPDATES = 18, 2_000_000     # of the large network on 16 TPU v3, section VII.D


def floor_of(learner: Learner, uploaded: Batch | Packed):
    """What no learner can do without, of a batch in place: all networks forwards, those that learn once backwards."""
    def floor(observation, following, action):
        for module in (learner.actor, learner.critic):
            module.zero_grad(set_to_none=True)
        with torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.config.precision == 'bfloat16'):
            with torch.no_grad():
                target = learner.target_actor(following)
                samples = target.mean[:, :, None].expand(-1, -1, learner.config.mpo.action_samples, -1)
                learner.target_critic(following, samples)
            policy = learner.actor(following)
            loss = learner.critic(observation, action).mean() + policy.mean.mean() + policy.std.mean()
        loss.backward()

    captures = learner.config.capture and learner.device.type == 'cuda'     # then the floor as well
    call = Captured(floor, learner.device) if captures else floor
    batch = uploaded.batch() if isinstance(uploaded, Packed) else uploaded      # once: the floor has no views to make
    return lambda: call(batch.observation, batch.next_observation, batch.action)


def measure(work, seconds: float, device: torch.device) -> float:
    """s a call."""
    def settle():
        if device.type == 'cuda':
            torch.cuda.synchronize()

    work()
    settle()
    start, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - start < seconds:
        work()
        calls += 1
    settle()
    return (time.perf_counter() - start) / calls


def row(name: str, batch_size: int, seconds: float, device: str, compiled: str, capture: bool, readers: int,
        folder: Path) -> None:
    observation, network = NETWORKS[name]
    # for networks as small as the state's, casting costs more than it saves
    precision = 'bfloat16' if device == 'cuda' and observation == 'pixels' else 'float32'
    config = LearnerConfig.from_dict({'observation': observation, 'batch_size': batch_size, 'network': network,
                                      'compile': compiled, 'capture': capture, 'precision': precision,
                                      'replay': {'readers': readers}})
    learner = Learner(config, device=device)
    bags = folder / observation
    if not bags.exists():
        for number in range(4):
            write_synthetic_episode(bags, number, 100, observation)
    opener = partial(Replay, folder / f'replay_{observation}', observation)
    replay = opener()
    replay.sync(bags)
    draw = Draw(batch_size, config.n_step, config.discount)
    ahead = Ahead(learner, lambda: replay, draw, partial(opener, threads=1, writable=False))
    uploaded = learner.upload(draw.sample(replay, learner.batch_rng()))
    works = {'floor': floor_of(learner, uploaded), 'update': lambda: learner.step(uploaded),
             'replay': lambda: learner.step(draw.sample(replay, learner.batch_rng())), 'ahead': lambda: learner.step(ahead.take())}
    times = {what: [] for what in works}
    for _ in range(3):
        for what, work in works.items():
            times[what].append(measure(work, seconds / 12, learner.device))
            ahead.settle()
    ahead.close()
    base, update, plain, whole = (statistics.median(times[what]) for what in works)
    days = f'{UPDATES * whole / 86400:.1f}' if name == 'large' and learner.device.type != 'cpu' else ''
    print(f'| {name} | {batch_size} | {learner.device.type} | {1 / base:.2f} | {1 / update:.2f} | {1 / plain:.2f} '
          f'| {1 / whole:.2f} | {batch_size / whole:.0f} | {100 * base / whole:.0f} % | {days} |', flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench learner', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', default='state,small,large', help='networks (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=0, help='transitions (default: 256 state, 64 small, 16 large '
                        'on a CPU; 256 on a GPU)')
    parser.add_argument('--seconds', type=float, default=20.0, help='for each row (default: %(default)s)')
    parser.add_argument('--device', default='auto', choices=('auto', 'cpu', 'cuda'))
    parser.add_argument('--compile', default='auto', choices=('auto', 'always', 'never'), help='networks and losses, not the '
                        'floor (default: %(default)s)')
    parser.add_argument('--plain', action='store_true', help='on a GPU without a CUDA graph')
    parser.add_argument('--threads', type=int, default=1, help='of the processor (default: %(default)s)')
    parser.add_argument('--readers', type=int, default=-1, help='processes that draw batches ahead (default: on a GPU two '
                        'less than there are processors, at most 12, else none)')
    options = parser.parse_args()
    device = options.device if options.device != 'auto' else ('cuda' if torch.cuda.is_available() else 'cpu')
    torch.set_num_threads(options.threads)
    unknown = set(options.only.split(',')) - set(NETWORKS)
    if unknown:
        parser.error(f'--only: there is no network {sorted(unknown)[0]!r}')
    readers = options.readers
    if readers < 0:
        readers = max(0, min(12, len(os.sched_getaffinity(0)) - 2)) if device == 'cuda' else 0
    print(f'torch {torch.__version__}, {options.threads} threads, {readers} readers\n')
    print('| network | batch | device | floor, 1/s | update, 1/s | with replay, 1/s | drawn ahead, 1/s | transitions/s '
          f'| of the floor | days for 2M (paper: {PAPER_DAYS}) |')
    print('|---|---|---|---|---|---|---|---|---|---|')
    small = {'state': 256, 'small': 64, 'large': 16}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only.split(','):
            batch = options.batch or (256 if device == 'cuda' else small[name])
            row(name, batch, options.seconds, device, options.compile, not options.plain, readers, Path(folder))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
