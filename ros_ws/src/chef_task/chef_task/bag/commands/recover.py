# SPDX-License-Identifier: Apache-2.0
"""`./chef bags recover`: valid bags of what a crash left."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import printable
from chef_task.bag.errors import BagError
from chef_task.bag.recover import find_crashed, recover

HELP = 'make valid bags of what a crash left'
DESCRIPTION = ('Looks for bags that were never sealed, or were cut off afterwards, and writes what is sound in each '
               'to a new bag, labelled with what was lost, and audited. The originals are only read. Exit status 1 '
               'if something cannot be recovered.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('folder', metavar='DIR', type=Path, help='a run, its episodes folder, or one bag or MCAP file')
    parser.add_argument('--output', metavar='OUT', type=Path,
                        help='folder of the new bags (default: beside each original)')


def run(args: Namespace) -> int:
    if not os.path.exists(args.folder):
        raise BagError(f'{args.folder}: no such file or folder')
    sources = find_crashed(args.folder)
    failed = 0
    for source in sources:
        try:
            r = recover(source, args.output)
        except BagError as e:
            failed += 1
            print(f'failed: {printable(str(e))}')
            continue
        if r.made:
            print(printable(f'recovered: {source} to {r.bag}: {r.steps} Steps; lost: {r.lost or "nothing"}'))
        else:
            print(printable(f'nothing to do: {source} is whole' if r.bag == source else
                            f'nothing to do: {source} is recovered in {r.bag}'))
    print(f'{len(sources) - failed} of {len(sources)} are whole or recovered' if sources else
          f'nothing to recover in {args.folder}')
    return 1 if failed else 0
