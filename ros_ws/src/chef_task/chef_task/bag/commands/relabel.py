# SPDX-License-Identifier: Apache-2.0
"""`./chef bags relabel`: rewards computed anew over old bags, beside them."""

from __future__ import annotations

import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import printable
from chef_task.bag.either import left_out
from chef_task.bag.errors import BagError
from chef_task.bag.files import find_bags
from chef_task.bag.labels import Labels, labels_folder
from chef_task.bag.reader import Episode
from chef_task.bag.reward_tasks import RewardError, RewardSet

HELP = 'compute rewards anew, as a version of labels beside the bags'
DESCRIPTION = ('Computes the rewards of all tasks with the present code, and those of functions of your own, over '
               'every bag, and stores them as <run>/labels/VERSION/<episode id>.npz; the bags are not touched. '
               'Started again it labels what has no labels yet. Exit status 1 if a bag could not be labelled.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('folder', metavar='DIR', type=Path, help='a run, its episodes folder, or one bag')
    parser.add_argument('--task', metavar='FILE.py:function', action='append', default=[],
                        help='a further task: reward(step) -> number in [0, 1], see docs/labels.md; may be repeated')
    parser.add_argument('--name', metavar='VERSION',
                        help='of the labels (default: the task and a hash of all source code)')
    parser.add_argument('--output', metavar='FOLDER', type=Path,
                        help='put VERSION into this folder, for bags on a read-only disk')


def run(args: Namespace) -> int:
    rewards = RewardSet.load(args.task)
    name = args.name or rewards.default_name()
    paths = find_bags(args.folder)
    if note := left_out(args.folder):
        print(printable(note))
    if not paths:
        print(f'no episodes in {args.folder}')
        return 0
    begun: dict[Path, tuple[Labels, bool]] = {}
    labelled, there, faults = 0, 0, []
    try:
        for path in paths:
            folder = args.output or labels_folder(path)
            if folder not in begun:
                begun[folder] = Labels.begin(folder, name, rewards)
            labels = begun[folder][0]
            try:
                if labels.has(path):
                    there += 1
                    continue
                episode = Episode.open(path)
                values = rewards.compute(episode)
            except RewardError:
                raise
            except (BagError, ValueError) as e:
                faults.append(str(e) if str(path) in str(e) else f'{path}: {e}')
                continue
            labels.write(episode, values)
            labelled += 1
    except RewardError:
        # what a faulty function gave so far is not worth a version
        for labels, new in begun.values():
            if new:
                shutil.rmtree(labels.folder, ignore_errors=True)
        raise
    for fault in faults:
        print(f'failed: {printable(fault)}')
    print(f'labels {name}: {labelled} of {len(paths)} episodes labelled' + (f', {there} had been' if there else ''))
    print(f'tasks: {", ".join(rewards.tasks)}')
    for labels, _ in begun.values():
        print(f'in {labels.folder}')
    return 1 if faults else 0
