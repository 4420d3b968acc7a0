# SPDX-License-Identifier: Apache-2.0
"""`./chef bags check`: whether bags and files of episodes hold what they must."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from chef_task.bag.audit import audit
from chef_task.bag.commands.text import printable
from chef_task.bag.convert import differing
from chef_task.bag.either import FileEpisode, find_either, open_either
from chef_task.bag.reader import recompute_rewards
from chef_task.errors import OneLineError

HELP = 'read everything and compare with what was recorded'
DESCRIPTION = ('Reads every bag in full and audits it: checksums, counts, Steps complete and in order with the samples '
               'they name; rewards computed anew must equal the recorded ones. The same of simulated '
               'files. Exit status 1 if one fails.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('folder', metavar='DIR', type=Path, help='a run, its episodes folder, or one bag or file')


def fault_of(path: Path) -> str:
    """What is wrong with a bag or a file; empty if nothing is."""
    try:
        episode = open_either(path)
        in_file = isinstance(episode, FileEpisode)
        faults = _faults_of_file(episode) if in_file else audit(episode).faults
        if faults:
            return f'{path}: {"; ".join(faults)}'
        if in_file and not episode.exact:       # of the first format: there is nothing to compute rewards from
            return ''
        for _ in episode.iterate():
            pass
        steps = episode.steps()
        if not steps:
            return f'{path}: has no Steps'
        recorded, again = np.stack([s.rewards for s in steps]), recompute_rewards(episode)
    except OneLineError as e:
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


def _faults_of_file(episode: FileEpisode) -> list[str]:
    """It was read whole, checksums included; what is left is whether its parts agree."""
    faults = []
    for (step, samples), (_, features) in zip(episode.iterate(), episode.features()) if episode.exact else ():
        wrong = differing(step, samples, features)
        if wrong:
            faults.append(f'step {step.index}: its {wrong} does not follow from the samples kept')
            break
    sums = np.sum([s.rewards for s in episode.steps()], 0, dtype=float)
    if sums.shape != np.shape(episode.record.returns) or not np.allclose(
            sums, episode.record.returns, 1e-4, 1e-3, equal_nan=True):
        faults.append('its returns are not the sums of its rewards')
    return faults


def run(args: Namespace) -> int:
    paths = find_either(args.folder)
    faults = [f for f in map(fault_of, paths) if f]
    for fault in faults:
        print(f'failed: {printable(fault)}')
    print(f'{len(paths) - len(faults)} of {len(paths)} episodes hold what they must')
    return 1 if faults else 0
