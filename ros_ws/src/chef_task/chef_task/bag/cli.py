# SPDX-License-Identifier: Apache-2.0
"""`./chef bags`: look at what was recorded, check it, and make other things of it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from chef_task.bag import commands
from chef_task.bag.commands.text import printable
from chef_task.errors import OneLineError


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, as all else here does."""

    def error(self, message: str):
        print(f'{self.prog}: {message} (see --help)', file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog='./chef bags', description='Look at recorded episodes.')
    subparsers = parser.add_subparsers(required=True, metavar='COMMAND')
    for name in commands.NAMES:
        module = importlib.import_module(f'{commands.__name__}.{name}')
        sub = subparsers.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 1 if something was found at fault, 2 for bad input."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as e:             # argparse has printed what is wrong, or the help
        return int(e.code or 0)
    try:
        return args.run(args)
    except OneLineError as e:
        print(f'chef bags: {printable(str(e))}', file=sys.stderr)
        return 2
    except BrokenPipeError:             # `| head` has seen enough; keep the interpreter from flushing into it
        sys.stdout = None
        return 0
