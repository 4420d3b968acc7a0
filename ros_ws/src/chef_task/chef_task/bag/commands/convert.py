# SPDX-License-Identifier: Apache-2.0
"""`./chef bags convert`: simulated episodes in one file to bags, and bags to files."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import printable
from chef_task.bag.convert import KINDS, AlreadyThere, convert, sources
from chef_task.bag.errors import BagError
from chef_task.episode_file import EpisodeFileError

HELP = 'bags of simulated episodes, and simulated files of bags'
DESCRIPTION = ('Makes a sealed bag of every file that ./chef simulate wrote, and such a file of every bag. What replay '
               'reads is the same, bit for bit. The originals are only read, and what is there already is left as it '
               'is. Exit status 1 if something cannot be converted.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', type=Path, nargs='+', help='a bag, a file, or a run with either')
    parser.add_argument('--to', metavar='DIR', type=Path, required=True, help='folder of what is made')
    parser.add_argument('--as', dest='make', choices=KINDS, default='',
                        help='what to make, where a folder holds both; without it the kind of each SOURCE decides')


def run(args: Namespace) -> int:
    failed = 0
    for source in [s for path in args.source for s in sources(path, args.make)]:
        try:
            print(printable(f'{source} to {convert(source, args.to)}'))
        except AlreadyThere as e:
            print(printable(f'left as it is: {e}'))
        except (BagError, EpisodeFileError) as e:
            failed += 1
            print(printable(f'failed: {e}'))
        except OSError as e:
            raise BagError(f'{args.to}: cannot be written: {e.strerror or e}') from None
    return 1 if failed else 0
