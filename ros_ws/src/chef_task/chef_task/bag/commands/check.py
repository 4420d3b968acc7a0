# SPDX-License-Identifier: Apache-2.0
"""`./chef bags check`: whether bags hold what they must."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from chef_task.bag.audit import audit
from chef_task.bag.commands.text import printable
from chef_task.bag.errors import BagError
from chef_task.bag.files import find_bags
from chef_task.bag.reader import Episode, recompute_rewards

HELP = 'read everything and compare with what was recorded'
DESCRIPTION = ('Reads every bag in full and audits it: checksums, counts, Steps complete and in order with the samples '
               'they name; rewards computed anew must equal the recorded ones. Exit status 1 if a bag fails.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('folder', metavar='DIR', type=Path, help='a run, its episodes folder, or one bag')


def fault_of(path: Path) -> str:
    """What is wrong with a bag; empty if nothing is."""
    try:
        episode = Episode.open(path)
        faults = audit(episode).faults
        if faults:
            return f'{path}: {"; ".join(faults)}'
        for _ in episode.iterate():
            pass
        steps = episode.steps()
        if not steps:
            return f'{path}: has no Steps'
        recorded, again = np.stack([s.rewards for s in steps]), recompute_rewards(episode)
    except BagError as e:
        return str(e)
    except ValueError as e:
        return f'{path}: {e}'
    if not np.array_equal(recorded, again):
        if recorded.shape != again.shape:
            return f'{path}: records {recorded.shape[1]} rewards a step, {again.shape[1]} are computed'
        index, task = np.argwhere(recorded != again)[0]
        return (f'{path}: step {index}: reward {episode.record.tasks[task]} was recorded as '
                f'{recorded[index, task]:.6g}, its samples give {again[index, task]:.6g}')
    return ''


def run(args: Namespace) -> int:
    paths = find_bags(args.folder)
    faults = [f for f in map(fault_of, paths) if f]
    for fault in faults:
        print(f'failed: {printable(fault)}')
    print(f'{len(paths) - len(faults)} of {len(paths)} episodes hold what they must')
    return 1 if faults else 0
