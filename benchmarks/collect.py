# SPDX-License-Identifier: Apache-2.0
"""Speed of the whole running graph: real time with cameras, and lockstep with state features.

    ./chef bench collect [--steps 400] [--episodes 2] [--learner]

Each row is one run of `./chef launch collect.launch.py` with a random policy. `x real time` is the
control period (50 ms) over the mean wall-clock time between ticks, within episodes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = (
    ('real time, three cameras, exact physics', dict(speed='1', observation='pixels', physics='exact')),
    ('lockstep, state features, exact physics', dict(speed='max', observation='state', physics='exact')),
    ('lockstep, state features, fast physics', dict(speed='max', observation='state', physics='fast')),
    ('lockstep, three cameras, fast physics', dict(speed='max', observation='pixels', physics='fast')),
)
NUMBERS = r'p50 ([\d.]+), p99 ([\d.]+), max ([\d.]+) ms'


def run(output: Path, arguments: dict[str, str]) -> dict[str, tuple[float, ...]]:
    """One run's figures; SystemExit with its output if it fails."""
    words = [f'{k}:={v}' for k, v in {'output': str(output), **arguments}.items()]
    done = subprocess.run([sys.executable, str(ROOT / 'chef'), 'launch', 'collect.launch.py', *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200)
    if done.returncode:
        raise SystemExit(f'collect: the run failed:\n{done.stdout}')
    found = {'rate': r'rate: ([\d.]+) Hz', 'period': 'period ' + NUMBERS, 'latency': 'command: ' + NUMBERS}
    return {k: tuple(map(float, re.search(p, done.stdout).groups())) for k, p in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench collect', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=400, help='control steps an episode (default: %(default)s)')
    parser.add_argument('--episodes', type=int, default=2, help='episodes a run (default: %(default)s)')
    parser.add_argument('--learner', action='store_true', help='with a learner beside the cell')
    options = parser.parse_args()
    print(f'{os.cpu_count()} cores; {options.episodes} episodes of {options.steps} steps; '
          f'learner {"on" if options.learner else "off"}\n')
    print('| run | rate, Hz | x real time | period p50 / p99 / max, ms | tick to command p50 / p99 / max, ms |')
    print('|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, arguments) in enumerate(RUNS):
            figures = run(Path(folder) / str(i), {
                **arguments, 'episodes': options.episodes, 'steps': options.steps,
                'policy': 'latest' if options.learner else 'random', 'learner': str(options.learner).lower()})
            rate = figures['rate'][0]
            period, latency = (' / '.join(f'{v:.1f}' for v in figures[k]) for k in ('period', 'latency'))
            print(f'| {name} | {rate:.1f} | {rate / 20:.2f} | {period} | {latency} |', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
