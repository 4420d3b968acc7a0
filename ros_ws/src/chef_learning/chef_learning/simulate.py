# SPDX-License-Identifier: Apache-2.0
"""`chef simulate DIR`: fills a run with episodes of simulated cells, without a graph; see docs/simulation.md."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from chef_learning.config import OBSERVATIONS, LearnerConfig
from chef_task.rewards import TASKS

_USAGE = 2
_MOST_WORKERS = 1024


def _parser(cell: str | None) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog='chef simulate', description='Simulates episodes in worker processes, as the graph does with speed:=max, '
        'but many times faster, and keeps each as a file in DIR/episodes that learners read like bags. What is there '
        'is kept; the same call adds further episodes.')
    p.add_argument('dir', type=Path, metavar='DIR', help='folder of the run, made if missing')
    p.add_argument('--policy', default='random', help='who acts: random, scripted (stacks by rule), learner (the newest '
                   'version in DIR/policies, before every episode), the folder of a version, or module:Class (default: '
                   '%(default)s)')
    p.add_argument('--episodes', type=int, default=100, help='how many more (default: %(default)s)')
    p.add_argument('--workers', type=int, default=0, help='processes, each with one cell and one core (default: as many '
                   'as there are cores)')
    p.add_argument('--triplet', type=int, default=1, choices=range(1, 6), help='which objects (default: %(default)s)')
    p.add_argument('--physics', default='fast', choices=('fast', 'exact'), help='default: %(default)s')
    p.add_argument('--observation', default='state', choices=OBSERVATIONS, help='what the policy sees (default: '
                   '%(default)s)')
    p.add_argument('--seed', type=int, default=0, help='of everything random; episode k is a function of it, of k and of '
                   'the policy, whatever the number of workers (default: %(default)s)')
    p.add_argument('--steps', type=int, default=400, help='control steps an episode (default: %(default)s)')
    p.add_argument('--reset', default='set', choices=('set', 'move'), help='put the arm at its start pose, or move it '
                   'there as the graph does, for seconds (default: %(default)s)')
    p.add_argument('--evaluate', action='store_true', help='act for the main task only, by the mean of its policy')
    p.add_argument('--task', default='', choices=('', *TASKS), help='the same for another task')
    p.add_argument('--learner', type=Path, metavar='CONFIG', help='train beside, with these settings')
    p.add_argument('--publish-period', type=float, default=10.0, metavar='S', help='with --learner: s between two policy '
                   'versions (default: %(default)s)')
    p.add_argument('--updates-per-step', type=float, default=0.0, metavar='R', help='with --learner: updates for each '
                   'control step, neither acting nor learning is ahead by more than an episode of every worker '
                   '(default: both as fast as they can)')
    p.add_argument('--cell', type=Path, default=cell, required=cell is None, help='configuration of the cell (default: '
                   '%(default)s)')
    return p


def main(argv: list[str] | None = None, cell: str | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed, 2 wrong input, 130 or 143 interrupted.

    Args:
      cell: the file to use where none is given.
    """
    args = _parser(cell).parse_args(argv)
    try:
        config = _check(args)
    except ValueError as e:
        return _fail(e, _USAGE)
    # late: what they import takes seconds, a mistake in the arguments should not
    from chef_learning.fleet import Fleet, FleetError
    from chef_learning.fleet_learner import Beside
    from chef_learning.fleet_worker import Job
    workers = args.workers or len(os.sched_getaffinity(0))
    job = Job(args.dir, args.cell, args.policy, args.triplet, args.physics, args.observation, args.seed, args.steps,
              args.reset, args.evaluate, args.task)
    beside = config and Beside(config, args.dir, args.seed, args.updates_per_step, workers * args.steps,
                              args.publish_period)
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))
    fleet = Fleet(job, args.episodes, workers, beside, lambda line: print(line, flush=True), lambda: bool(asked))
    try:
        tally = fleet.run()
    except FleetError as e:
        return _fail(e, _USAGE if e.usage else 1)
    except OSError as e:
        return _fail(f'{e.filename or args.dir}: {e.strerror or e}', 1)
    print('\n'.join(tally.summary()))
    if beside:
        print(f'{beside.updates} updates; policies: {args.dir / "policies"}')
    print(f'episodes: {args.dir / "episodes"}')
    return 128 + asked[0] if asked else 0


def _check(args: argparse.Namespace) -> LearnerConfig | None:
    for name, least, most in (('episodes', 1, 10**8), ('workers', 0, _MOST_WORKERS), ('seed', 0, 2**63),
                              ('steps', 1, 10**6)):
        if not least <= getattr(args, name) <= most:
            raise ValueError(f'--{name} must be within {least}..{most}, not {getattr(args, name)}')
    if not 0.0 <= args.updates_per_step < float('inf'):
        raise ValueError(f'--updates-per-step must be a finite number of at least 0, not {args.updates_per_step}')
    if args.learner is None:
        if args.updates_per_step:
            raise ValueError('--updates-per-step needs --learner')
        return None
    config = LearnerConfig.load(args.learner)
    if config.observation != args.observation:
        raise ValueError(f'{args.learner} is for observation {config.observation}, the cells offer {args.observation}')
    return config


def _fail(error: object, code: int) -> int:
    print(f'chef simulate: {error}', file=sys.stderr)
    return code
