# SPDX-License-Identifier: Apache-2.0
"""Curves of a run of `./chef simulate`: one line an episode, and a picture of returns by task.

    python benchmarks/fleet_curves.py extract runs/fleet docs/results/fleet/triplet1_0.jsonl
    python benchmarks/fleet_curves.py plot docs/results/fleet

A line has the episode's number, policy, steps, reason, success, and the return of every task, whoever acted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from chef_task import episode_file
from chef_task.rewards import TASKS

_MEAN_OF = 50       # episodes a point


def extract(run: Path, out: Path) -> None:
    lines = []
    for path in episode_file.find(run / 'episodes'):
        r = episode_file.EpisodeFile(path).record
        lines.append(json.dumps({
            'episode': int(path.stem.rpartition('_')[2]), 'policy': r.policy_version, 'steps': r.steps,
            'reason': r.termination_reason.split(':')[0], 'success': r.success,
            'returns': [round(x, 2) for x in r.returns], 'chosen': r.metadata.get('chosen')}))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(''.join(line + '\n' for line in lines))


def plot(folder: Path) -> None:
    """<folder>/curves.png from the lines that are there."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(TASKS), figsize=(15, 2.8), layout='constrained')
    for path in sorted(folder.glob('*.jsonl')):
        returns = np.array([json.loads(line)['returns'] for line in path.read_text().splitlines()])
        whole = len(returns) // _MEAN_OF * _MEAN_OF
        means = returns[:whole].reshape(-1, _MEAN_OF, len(TASKS)).mean(axis=1)
        for k, axis in enumerate(axes):
            axis.plot(np.arange(1, len(means) + 1) * _MEAN_OF, means[:, k], label=path.stem)
    for task, axis in zip(TASKS, axes):
        axis.set(title=task, xlabel='episodes')
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel(f'return, mean of {_MEAN_OF} episodes')
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(folder / 'curves.png', dpi=100)


def main(words: list[str]) -> int:
    if len(words) == 3 and words[0] == 'extract':
        extract(Path(words[1]), Path(words[2]))
    elif len(words) == 2 and words[0] == 'plot':
        plot(Path(words[1]))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
