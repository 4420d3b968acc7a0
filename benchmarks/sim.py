# SPDX-License-Identifier: Apache-2.0
"""Speed of the simulated cell beside the public environment's packages, and where its time goes.

    ./chef bench sim [--seconds 8] [--rounds 3] [--triplet 1] [--no-public] [--workers 1,2]

Control steps of 50 ms a second on one core. Each contestant is a process of its own on the same core; one at a time
runs, in turns, so that whatever else the machine does hits all alike. Actions are random, the same kind for all. The
public environment is put together from its packages on PyPI (`_public_task.py`) in an environment of its own, made on
first use, 1 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _contestant import ComparisonError, Process
from _sim_runners import OURS, PUBLIC

SCRIPT = Path(__file__).resolve().with_name('_sim_runners.py')
HEAD = ('cell', 'control steps/s, median (lowest to highest)', *(f'it : {PUBLIC[name][0]}' for name in PUBLIC))


def rows(rates: Mapping[str, Sequence[float]]) -> list[str]:
    """Lines of the table; ratios are of one round each, their median."""
    out = []
    for name, values in rates.items():
        cells = [{**OURS, **PUBLIC}[name][0], f'{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})']
        for public in PUBLIC:
            known = public in rates and public != name
            cells.append(f'{statistics.median(a / b for a, b in zip(values, rates[public])):.1f}' if known else '')
        out.append(f'| {" | ".join(cells)} |')
    return out


def share_rows(parts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines of the table of parts, milliseconds a control step, the largest part first.

    Args:
      parts: contestant to part to seconds, and `steps`.
    """
    names = sorted({part for of in parts.values() for part in of if part != 'steps'},
                   key=lambda part: -max(of.get(part, 0.0) / of['steps'] for of in parts.values()))
    return [f'| {part} | ' + ' | '.join(f'{1e3 * of.get(part, 0.0) / of["steps"]:.2f}' for of in parts.values()) + ' |'
            for part in names]


def measure(start: Callable[[str, int], Process], names: Sequence[str], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Control steps a second of each contestant in each round."""
    rates: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(start(name, 0)) for name in names}
        for number in range(rounds):
            for name, process in processes.items():
                done = process.ask(do='run', seconds=seconds)
                rates[name].append(done['steps'] / done['seconds'])
            print(f'sim: round {number + 1} of {rounds}: ' + ', '.join(f'{n} {r[-1]:.0f}/s' for n, r in rates.items()),
                  file=sys.stderr, flush=True)
    return rates


def scaling(start: Callable[[str, int], Process], workers: int, seconds: float) -> float:
    """Control steps a second of so many fast cells at once, each on a core of its own."""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(start('fast', core)) for core in range(workers)]
        for process in processes:
            process.send(do='run', seconds=seconds)
        answers = [process.receive() for process in processes]
    return sum(a['steps'] / a['seconds'] for a in answers)


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench sim', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=8.0, help='for each turn (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=3, help='turns of each (default: %(default)s)')
    parser.add_argument('--triplet', type=int, default=1, choices=range(1, 6), help='default: %(default)s')
    parser.add_argument('--no-public', action='store_true', help='ours alone')
    parser.add_argument('--only', default='', help='some of ' + ', '.join([*OURS, *PUBLIC]))
    parser.add_argument('--workers', default='', metavar='N,M', help='also so many fast cells at once')
    options = parser.parse_args()
    names = [n for n in [*PUBLIC, *OURS] if not (options.no_public and n in PUBLIC)]
    wanted = options.only.split(',') if options.only else names
    unknown = [n for n in wanted if n not in names]
    if unknown:
        parser.error(f'--only: there is no {unknown[0]!r} here, only {", ".join(names)}')
    try:
        workers = [int(word) for word in options.workers.split(',')] if options.workers else []
    except ValueError:
        parser.error(f'--workers: {options.workers!r} is not a list of numbers')
    if options.rounds < 1 or options.seconds <= 0 or any(w < 1 for w in workers):
        parser.error('--rounds, --seconds and --workers must be above 0')
    return run([n for n in names if n in wanted], workers, options)


def run(names: Sequence[str], workers: Sequence[int], options: argparse.Namespace) -> int:
    """Measures and prints; the exit status, 2 where the public packages cannot be installed."""
    from chef_bringup.setup import SetupError, benchmarks
    python = None
    try:
        if any(name in PUBLIC for name in names):
            python = benchmarks.ensure_here(
                'public_sim', '1 GB', 'the public packages need a checkout to be installed in; use --no-public')
    except SetupError as e:
        print(f'sim: {e}', file=sys.stderr)
        return 2

    def start(name: str, core: int) -> Process:
        ours = name in OURS
        env = {**(os.environ if ours else benchmarks.variables()), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore',
               'MUJOCO_GL': os.environ.get('MUJOCO_GL', 'egl')}
        settings = json.dumps({'triplet': options.triplet, 'core': core})
        # the public environment warns at every reset that its objects have not settled
        return Process(name, [sys.executable if ours else str(python), str(SCRIPT), name, settings], env, quiet=not ours)
    try:
        rates = measure(start, names, options.rounds, options.seconds)
        print(f'| {" | ".join(HEAD)} |\n|{"---|" * len(HEAD)}\n' + '\n'.join(rows(rates)), flush=True)
        ours, parts = [n for n in names if n in OURS], {}
        for name in ours:
            with start(name, 0) as process:
                done = process.ask(do='parts', seconds=options.seconds)
                parts[name] = {**done['parts'], 'steps': done['steps']}
        if ours:
            print(f'\n| milliseconds a control step | {" | ".join(OURS[n][0] for n in ours)} |\n|{"---|" * (1 + len(ours))}\n'
                  + '\n'.join(share_rows(parts)), flush=True)
        if workers:
            print('\n| fast cells at once | control steps/s |\n|---|---|', flush=True)
        for count in workers:
            print(f'| {count} | {scaling(start, count, options.seconds):.0f} |', flush=True)
    except ComparisonError as e:
        print(f'sim: {e}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
