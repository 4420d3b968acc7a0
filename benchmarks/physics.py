# SPDX-License-Identifier: Apache-2.0
"""What the fast physics change: the same actions, and the same policy, in the exact and in the fast setting.

    ./chef bench physics [--episodes 100] [--open-loop 20] [--triplets 1,2,3,4,5] [--log physics.jsonl]

Open loop: both settings start from the same state and are given the same random actions, 400 steps. Closed loop: the
scripted policy stacks, from the same seeds. One line of JSON an episode goes to the log; a call with the same log goes
on where the last one stopped, and ends with the tables of all that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from chef_control.simulated_cell import CellError, SimulatedCell
from chef_learning.acting import Acting
from chef_learning.policy import RandomPolicy
from chef_learning.scripted import ScriptedPolicy
from chef_task.bag.report import wilson
from chef_task.cell import CellConfig
from chef_task.rewards import TASKS

SETTINGS = ('exact', 'fast')
STEPS = 400
CONFIG = Path(__file__).resolve().parents[1] / 'config' / 'cells' / 'sim.yaml'


def scripted(cell: SimulatedCell, triplet: int, seed: int) -> dict | None:
    """One episode of the scripted policy; None where the scene cannot be made."""
    try:
        cell.reset(triplet, seed)
    except CellError:
        return None
    out = cell.run(f'scripted_{seed}', STEPS, Acting(ScriptedPolicy(), 'state'), lambda step, features: None)
    return {'success': bool(out.success), 'reason': out.reason.split(':')[0],
            'returns': [round(float(r), 3) for r in out.returns], 'peak_force_n': round(float(out.peak_force_n), 2)}


def open_loop(cells: dict[str, SimulatedCell], triplet: int, seed: int) -> dict | None:
    """The same actions from the same start in both settings, and how far they come apart while both go on."""
    seen: dict[str, list] = {}
    start = None
    for name, cell in cells.items():
        try:
            cell.reset(triplet, seed)
        except CellError:
            return None
        objects = cell.world.index.objects_qpos
        if start is None:
            start = cell.world.data.qpos[objects].copy()
        cell.world.set_objects(start)
        steps = seen.setdefault(name, [])
        cell.run(f'open_{seed}', STEPS, Acting(RandomPolicy(seed), 'state'),
                 lambda step, features: steps.append((step.rewards, features['pinch_pose'][:3], features['red_pose'][:3])))
    n = min(map(len, seen.values()))
    exact, fast = ([np.array([s[i] for s in seen[name][:n]]) for i in range(3)] for name in SETTINGS)
    apart = [np.linalg.norm(a - b, axis=1) for a, b in zip(exact[1:], fast[1:])]
    return {'steps': [len(seen[name]) for name in SETTINGS],
            'rewards': np.abs(exact[0] - fast[0]).mean(axis=0).round(5).tolist(),
            'pinch_m': [round(float(np.median(apart[0])), 6), round(float(apart[0].max()), 6)],
            'red_m': [round(float(np.median(apart[1])), 6), round(float(apart[1].max()), 6)]}


def missing(rows: Iterable[dict], kind: str, setting: str, triplet: int, count: int) -> list[int]:
    """Seeds from 1000 on that have no row yet."""
    there = {r['seed'] for r in rows if (r['kind'], r['setting'], r['triplet']) == (kind, setting, triplet)}
    return [seed for seed in range(1000, 1000 + count) if seed not in there]


def tables(rows: list[dict]) -> str:
    """Markdown of all rows."""
    lines = ['| triplet | setting | episodes | successes | 95 % | force stops | return ' + ' | '.join(TASKS[1:]) + ' |',
             '|---' * (6 + len(TASKS) - 1) + '|']
    for triplet in sorted({r['triplet'] for r in rows}):
        for setting in SETTINGS:
            of = [r for r in rows if (r['kind'], r['setting'], r['triplet']) == ('scripted', setting, triplet) and 'reason' in r]
            if of:
                won = sum(r['success'] for r in of)
                low, high = wilson(won, len(of))
                returns = np.mean([r['returns'] for r in of], axis=0)[1:]
                stops = sum(r['reason'] == 'force_limit' for r in of)
                lines.append(f'| {triplet} | {setting} | {len(of)} | {won} | {100 * low:.0f} to {100 * high:.0f} % | {stops} | '
                             + ' | '.join(f'{v:.0f}' for v in returns) + ' |')
    lines += ['', '| triplet | episodes | ended at another step | tool apart, median / max, mm | red apart, median / max, mm | '
              'reward apart, mean: ' + ' | '.join(TASKS) + ' |', '|---' * (5 + len(TASKS)) + '|']
    for triplet in sorted({r['triplet'] for r in rows}):
        of = [r for r in rows if r['kind'] == 'open_loop' and r['triplet'] == triplet and 'steps' in r]
        if of:
            apart = {k: 1e3 * np.array([r[k] for r in of]) for k in ('pinch_m', 'red_m')}
            lines.append(f'| {triplet} | {len(of)} | {sum(len(set(r["steps"])) > 1 for r in of)} | ' + ' | '.join(
                f'{np.median(a[:, 0]):.2f} / {a[:, 1].max():.1f}' for a in apart.values()) + ' | ' + ' | '.join(
                f'{v:.4f}' for v in np.mean([r['rewards'] for r in of], axis=0)) + ' |')
    return '\n'.join(lines)


def read(log: Path) -> list[dict]:
    """The log's rows; ValueError, one line, for one that is none of ours."""
    rows = []
    for number, line in enumerate(log.read_text().splitlines() if log.exists() else (), 1):
        try:
            row = json.loads(line)
            rows.append({**row, 'seed': int(row['seed']), 'triplet': int(row['triplet']), 'kind': row['kind'],
                         'setting': row['setting']})
        except (ValueError, TypeError, KeyError):
            raise ValueError(f'{log}, line {number}: not a line of this benchmark') from None
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench physics', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--episodes', type=int, default=100, help='of the scripted policy, each triplet and setting '
                        '(default: %(default)s)')
    parser.add_argument('--open-loop', type=int, default=20, help='episodes of random actions, each triplet (default: '
                        '%(default)s)')
    parser.add_argument('--triplets', default='1,2,3,4,5', help='default: %(default)s')
    parser.add_argument('--log', type=Path, default=Path('physics.jsonl'), help='default: %(default)s')
    options = parser.parse_args()
    try:
        triplets = [int(word) for word in options.triplets.split(',')]
        if not all(1 <= t <= 5 for t in triplets):
            raise ValueError
    except ValueError:
        parser.error(f'--triplets: {options.triplets!r} is not a list of numbers from 1 to 5')
    try:
        rows = read(options.log)
        measure(options, triplets, rows)
    except (ValueError, OSError) as e:
        print(f'chef bench physics: {e}', file=sys.stderr)
        return 1
    print(tables(rows))
    return 0


def measure(options: argparse.Namespace, triplets: list[int], rows: list[dict]) -> None:
    """Runs what the log lacks, and adds it to log and rows."""
    config = CellConfig.load(CONFIG)
    with open(options.log, 'a', encoding='utf-8') as log:
        def keep(kind: str, setting: str, triplet: int, count: int, work: Callable[[int], dict | None]) -> None:
            for seed in missing(rows, kind, setting, triplet, count):
                row = {'kind': kind, 'setting': setting, 'triplet': triplet, 'seed': seed, **(work(seed) or {})}
                rows.append(row)
                log.write(json.dumps(row) + '\n')
                log.flush()

        for triplet in triplets:
            cells = {name: SimulatedCell(config, physics=name, triplet=triplet) for name in SETTINGS}
            keep('open_loop', 'both', triplet, options.open_loop, lambda seed: open_loop(cells, triplet, seed))
            for name in reversed(SETTINGS):
                keep('scripted', name, triplet, options.episodes, lambda seed: scripted(cells[name], triplet, seed))
            print(f'triplet {triplet} done', file=sys.stderr, flush=True)


if __name__ == '__main__':
    raise SystemExit(main())
