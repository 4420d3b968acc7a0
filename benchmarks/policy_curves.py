# SPDX-License-Identifier: Apache-2.0
"""What the versions of a training are worth: each acts by the mean of one task's policy, all in the same scenes.

    python benchmarks/policy_curves.py evaluate RUN OUT.jsonl --task lift [--every 5000] [--episodes 40] [--triplet 1] [--seed 900]
    python benchmarks/policy_curves.py plot FOLDER

RUN is a folder with `policies`, of `./chef train --output` or `./chef simulate`. A line has the version, its updates, and for every
episode its return of the task and why it ended. Lines that are there already stay.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from chef_learning import policy_files
from chef_learning.simulate import main as simulate
from chef_task import episode_file
from chef_task.rewards import TASKS

CELL = Path(__file__).resolve().parent.parent / 'config' / 'cells' / 'sim.yaml'


def pick(known: list[tuple[int, Path]], every: int) -> list[tuple[int, Path]]:
    """Of versions with their updates, in order: the first at or after each multiple of so many updates, and the newest."""
    chosen, due = [], every
    for updates, path in known:
        if updates >= due:
            chosen.append((updates, path))
            due = (updates // every + 1) * every
    return chosen + [each for each in known[-1:] if each not in chosen]


def evaluate(options: argparse.Namespace) -> None:
    out, column = options.out, TASKS.index(options.task)
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)['version'] for line in out.read_text().splitlines()} if out.exists() else set()
    known = [(policy_files.read_info(p).updates, p) for p in policy_files.versions(options.run / 'policies')]
    for updates, path in pick(known, options.every):
        if path.name in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            words = [folder, '--policy', str(path), '--task', options.task, '--workers', '1', '--seed', str(options.seed),
                     '--episodes', str(options.episodes), '--triplet', str(options.triplet)]
            with contextlib.redirect_stdout(io.StringIO()):
                code = simulate(words, cell=str(CELL))
            if code:
                sys.exit(code)
            records = [episode_file.EpisodeFile(p).record for p in episode_file.find(Path(folder, 'episodes'))]
        returns = [round(float(r.returns[column]), 1) for r in records]
        line = {'version': path.name, 'updates': updates, 'task': options.task, 'triplet': options.triplet,
                'returns': returns, 'reasons': [r.termination_reason.split(':')[0] for r in records]}
        with out.open('a') as f:
            f.write(json.dumps(line) + '\n')
        print(f'{path.name}, {updates} updates: {np.mean(returns):.1f}, {np.mean(np.array(returns) > 0):.0%} of episodes',
              flush=True)


def plot(folder: Path) -> None:
    """<folder>/policies.png from the lines that are there: means, and standard errors."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.2), layout='constrained')
    for path in sorted(folder.glob('policies_*.jsonl')):
        lines = sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda each: each['updates'])
        returns = np.array([each['returns'] for each in lines])
        axis.errorbar([each['updates'] for each in lines], returns.mean(axis=1),
                      returns.std(axis=1) / np.sqrt(returns.shape[1]), label=path.stem.removeprefix('policies_'), capsize=2)
        axis.set(title=lines[0]['task'], xlabel='updates', ylabel='return, by the mean')
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(folder / 'policies.png', dpi=100)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    p = commands.add_parser('evaluate')
    p.add_argument('run', type=Path)
    p.add_argument('out', type=Path)
    p.add_argument('--task', choices=TASKS, required=True)
    p.add_argument('--every', type=int, default=5000, help='updates (default: %(default)s)')
    for name, default in (('episodes', 40), ('triplet', 1), ('seed', 900)):
        p.add_argument(f'--{name}', type=int, default=default, help='default: %(default)s')
    commands.add_parser('plot').add_argument('folder', type=Path)
    options = parser.parse_args()
    if options.command == 'plot':
        plot(options.folder)
    else:
        evaluate(options)
    return 0


if __name__ == '__main__':
    sys.exit(main())
