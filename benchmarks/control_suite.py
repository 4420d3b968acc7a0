# SPDX-License-Identifier: Apache-2.0
"""The learner on ground that others know: DeepMind control suite tasks, from state features.

    python3 -m venv suite && suite/bin/pip install -r requirements/benchmarks/control_suite.txt
    PYTHONPATH=ros_ws/src/chef_learning:ros_ws/src/chef_task suite/bin/python benchmarks/control_suite.py \
        train --task cartpole-swingup --seed 0 --steps 200000
    ... benchmarks/control_suite.py plot

It needs an environment of its own, since dm_control and our simulator want different versions of mujoco. A run
goes on where it stopped. Each evaluation is a line of docs/results/control_suite/<task>_<seed>.jsonl: control
steps, updates, hours, and the mean return (of 1000) of ten episodes acted by the policy's mean.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault('MUJOCO_GL', 'egl')   # nothing is drawn, but dm_control wants to know

import numpy as np
import torch
from torch import nn

from chef_learning import checkpoint
from chef_learning.config import LearnerConfig
from chef_learning.distributions import draw, sample
from chef_learning.domain import Domain
from chef_learning.learner import Learner
from chef_learning.replay import Batch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'docs' / 'results' / 'control_suite'
TASKS = ('cartpole-swingup', 'reacher-easy', 'finger-spin')
# What DMPO is published to reach (acme, control suite), of 1000.
PUBLISHED = {'cartpole-swingup': 850, 'reacher-easy': 900, 'finger-spin': 950}


class Flat(nn.Module):
    """The observation as it is."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, observation):
        return observation['state']


class Memory:
    """All transitions of a run: an episode is `length` steps and ends by time, so its last state bootstraps."""

    def __init__(self, capacity: int, size: int, actions: int):
        self.arrays = {'state': np.zeros((capacity, size), np.float32), 'next': np.zeros((capacity, size), np.float32),
                       'action': np.zeros((capacity, actions), np.float32), 'reward': np.zeros(capacity, np.float32),
                       'end': np.zeros(capacity, np.int64)}     # index behind the episode's last transition
        self.count = 0

    def add(self, states, actions, rewards) -> None:
        """An episode: states [T + 1], actions [T], rewards [T]."""
        n, at = len(actions), slice(self.count, self.count + len(actions))
        a = self.arrays
        a['state'][at], a['next'][at], a['action'][at], a['reward'][at] = states[:-1], states[1:], actions, rewards
        a['end'][at] = self.count + n
        self.count += n

    def sample(self, rng: np.random.Generator, config: LearnerConfig) -> Batch:
        a, t = self.arrays, rng.integers(0, self.count, config.batch_size)
        returns, factor = np.zeros(len(t), np.float32), np.ones(len(t), np.float32)
        last = t
        for i in range(config.n_step):
            inside = t + i < a['end'][t]
            last = np.where(inside, t + i, last)
            returns += np.where(inside, factor * a['reward'][last], 0)
            factor = np.where(inside, factor * config.discount, factor).astype(np.float32)
        return Batch({'state': a['state'][t]}, a['action'][t], returns[:, None], factor, {'state': a['next'][last]})


class Run:
    """One task, one seed."""

    def __init__(self, task: str, seed: int, steps: int, folder: Path, config: Path, results: Path, device: str):
        try:
            from dm_control import suite
        except ImportError as e:
            raise SystemExit(f'control_suite: {e}; it needs an environment of its own, see --help') from None

        self.task, self.steps = task, steps
        self.env = suite.load(*task.split('-'), task_kwargs={'random': seed})
        self.test = suite.load(*task.split('-'), task_kwargs={'random': seed + 1000})
        self.config = LearnerConfig.load(config)
        spec = self.env.action_spec()
        self.low, self.high, actions = spec.minimum, spec.maximum, spec.shape[0]
        size = sum(int(np.prod(v.shape)) for v in self.env.observation_spec().values())
        domain = Domain((task,), actions, lambda: Flat(size))
        self.learner = Learner(self.config, seed, device, domain)
        self.memory = Memory(steps + 2000, size, actions)
        self.folder, self.hours = folder / f'{task}_{seed}', 0.0
        self.curve = results / f'{task}_{seed}.jsonl'
        self._resume()

    def _resume(self) -> None:
        path, _ = checkpoint.resume(self.learner, self.folder)
        if path is None:
            self.curve.unlink(missing_ok=True)
            return
        if not self.curve.exists():
            raise SystemExit(f'control_suite: {self.curve} is missing: put it back, or remove {self.folder} to begin anew')
        with np.load(self.folder / 'memory.npz') as data:
            self.memory.count = int(data['count'])
            self.hours = float(data['hours'])
            for name, array in self.memory.arrays.items():
                array[:self.memory.count] = data[name]
        kept = [line for line in self.curve.read_text().splitlines()
                if json.loads(line)['steps'] <= self.memory.count]
        self.curve.write_text(''.join(line + '\n' for line in kept))

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / 'memory.partial.npz'
        np.savez(temporary, count=self.memory.count, hours=self.hours,
                 **{k: v[:self.memory.count] for k, v in self.memory.arrays.items()})
        os.replace(temporary, self.folder / 'memory.npz')
        checkpoint.save(self.learner, self.folder)

    def episode(self, env, explore: bool):
        """states [T + 1], actions [T] in [-1, 1], rewards [T]."""
        def flat(step):
            return np.concatenate([np.ravel(v) for v in step.observation.values()]).astype(np.float32)

        step = env.reset()
        states, actions, rewards = [flat(step)], [], []
        while not step.last():
            with torch.inference_mode():
                p = self.learner.actor({'state': torch.from_numpy(states[-1][None])})
                action = p.mean[0, 0]
                if explore:
                    action = sample(p, draw(1, 1, 1, p.mean.shape[-1], self.learner.generator))[0, 0, 0]
            action = action.clamp(-1, 1).numpy()
            step = env.step(self.low + 0.5 * (action + 1) * (self.high - self.low))
            states.append(flat(step))
            actions.append(action)
            rewards.append(step.reward)
        return np.stack(states), np.stack(actions), np.array(rewards, np.float32)

    def train(self, update_every: int, evaluate_every: int) -> None:
        begun, metrics = time.perf_counter(), {}
        while self.memory.count < self.steps:
            self.memory.add(*self.episode(self.env, explore=True))
            due = max(0, self.memory.count - 2000) // update_every
            while self.learner.updates < due:
                metrics = self.learner.step(self.memory.sample(self.learner.batch_rng(), self.config))
            now = time.perf_counter()
            self.hours, begun = self.hours + (now - begun) / 3600, now
            if self.memory.count % evaluate_every == 0:
                self.evaluate(metrics)
                begun = time.perf_counter()
                self.save()

    def evaluate(self, metrics: dict) -> None:
        returns = [float(self.episode(self.test, explore=False)[2].sum()) for _ in range(10)]
        row = {'steps': self.memory.count, 'updates': self.learner.updates, 'hours': round(self.hours, 4),
               'return': round(float(np.mean(returns)), 1), 'least': round(min(returns), 1),
               **{k: round(v, 5) for k, v in metrics.items() if '/' not in k}}
        with open(self.curve, 'a', encoding='utf-8') as f:
            f.write(json.dumps(row) + '\n')
        print(self.task, json.dumps(row), flush=True)


def plot() -> None:
    """docs/results/control_suite/curves.png from the lines that are there."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(TASKS), figsize=(12, 3.4), sharey=True, layout='constrained')
    for axis, task in zip(axes, TASKS):
        for path in sorted(RESULTS.glob(f'{task}_*.jsonl')):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            axis.plot([r['steps'] for r in rows], [r['return'] for r in rows],
                      label=f'seed {path.stem.rpartition("_")[2]}')
        axis.axhline(PUBLISHED[task], color='grey', linestyle=':', label='DMPO, published')
        axis.set(title=task, xlabel='control steps', ylim=(0, 1000))
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel('return of 1000, mean of 10 episodes')
    figure.savefig(RESULTS / 'curves.png', dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(prog='control_suite.py', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    train = commands.add_parser('train')
    train.add_argument('--task', choices=TASKS, required=True)
    train.add_argument('--seed', type=int, default=0)
    train.add_argument('--steps', type=int, default=200_000, help='control steps (default: %(default)s)')
    train.add_argument('--update-every', type=int, default=4, help='control steps an update (default: %(default)s)')
    train.add_argument('--evaluate-every', type=int, default=5000, help='control steps (default: %(default)s)')
    train.add_argument('--config', type=Path, default=ROOT / 'config' / 'learner' / 'control_suite.yaml',
                       help='of the learner (default: %(default)s)')
    train.add_argument('--results', type=Path, default=RESULTS, help='folder of the curve (default: %(default)s)')
    train.add_argument('--device', default='cpu', help='torch device of the learner (default: %(default)s)')
    train.add_argument('--folder', type=Path, default=Path('runs/control_suite'), help='of checkpoints')
    commands.add_parser('plot')
    args = parser.parse_args()
    if args.command == 'plot':
        plot()
        return 0
    torch.set_num_threads(1)
    args.results.mkdir(parents=True, exist_ok=True)
    Run(args.task, args.seed, args.steps, args.folder, args.config, args.results, args.device).train(args.update_every, args.evaluate_every)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
