# SPDX-License-Identifier: Apache-2.0
"""`./chef bags export`: bags as datasets of other programs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import printable
from chef_task.bag.either import left_out
from chef_task.bag.files import find_bags
from chef_task.bag.labels import Labels

HELP = 'write a dataset that another program reads'
DESCRIPTION = ('Writes the transitions of all bags as a LeRobot dataset (v3.0), images without loss; docs/lerobot.md '
               'says what is in it. OUT appears complete or not at all. Exit status 1 if a bag was left out.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('format', choices=('lerobot',), help='of the dataset')
    parser.add_argument('folder', metavar='DIR', type=Path, help='a run, its episodes folder, or one bag')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to make')
    parser.add_argument('--observation', choices=('pixels', 'state'), default='',
                        help='with images, or object poses instead (default: as recorded)')
    parser.add_argument('--labels', metavar='VERSION', help='rewards from these labels, not the recorded ones')


def run(args: Namespace) -> int:
    from chef_task.bag.lerobot import export    # pyarrow is needed for nothing else

    paths = find_bags(args.folder)
    if note := left_out(args.folder):
        print(printable(note))
    labels = Labels.find(args.labels, args.folder) if args.labels else None
    report = export(paths, args.out, args.observation, labels)
    for line in report.skipped:
        print(f'left out: {printable(line)}')
    print(f'{report.episodes} of {len(paths)} episodes, {report.frames} transitions in {args.out}')
    return 1 if report.skipped else 0
