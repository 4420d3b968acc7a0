# SPDX-License-Identifier: Apache-2.0
"""`./chef stage`, `run`, `status` and `report`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from chef_learning.experiment.config import KINDS
from chef_learning.experiment.folder import Experiment, ExperimentError


def _parser(name: str, text: str, cell: str | None) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=f'chef {name}', description=text)
    if name == 'stage':
        p.add_argument('kind', choices=tuple(KINDS), help='the first of this kind that is not finished')
    p.add_argument('experiment', type=Path, help='folder with experiment.yaml, see docs/experiments.md')
    if name in ('stage', 'run'):
        p.add_argument('--cell', type=Path, default=cell, required=cell is None, help='configuration of the cell (default: '
                       '%(default)s)')
    return p


def stage(words: list[str], cell: str | None = None) -> int:
    """`./chef stage KIND EXPERIMENT`; returns the exit code as `run` does."""
    args = _parser('stage', 'Run one stage of an experiment, or go on with it.', cell).parse_args(words)
    return _work('stage', args, lambda e: next(([s] for s in e.stages if s.kind == args.kind and not e.finished(s)), []))


def run(words: list[str], cell: str | None = None) -> int:
    """`./chef run EXPERIMENT`: 0 done, 1 failed, 2 wrong input, 130 or 143 stopped."""
    args = _parser('run', 'Run all stages of an experiment that are not finished, one after the other.', cell).parse_args(words)
    return _work('run', args, lambda e: list(e.stages))


def _work(name: str, args: argparse.Namespace, chosen) -> int:
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))
    try:
        experiment = Experiment(args.experiment)
        lock = experiment.lock()
        try:
            from chef_learning.experiment import stages
            work = stages.Work(experiment, args.cell, lambda line: print(line, flush=True), lambda: bool(asked))
            wanted = chosen(experiment)
            if not wanted:
                print(f'no stage {getattr(args, "kind", "")} is left to do')
            for one in wanted:
                if asked or not stages.run(work, one):
                    return 128 + asked[0]
                print(f'{one.name}: finished', flush=True)
        finally:
            os.close(lock)
    except ExperimentError as e:
        return _fail(name, e, 2 if e.usage else 1)
    except OSError as e:
        return _fail(name, f'{e.filename or args.experiment}: {e.strerror or e}', 1)
    return 0


def status(words: list[str]) -> int:
    """`./chef status EXPERIMENT`."""
    args = _parser('status', 'How far an experiment is, and what it has cost.', None).parse_args(words)
    try:
        from chef_learning.experiment.status import lines
        print('\n'.join(lines(Experiment(args.experiment))))
    except ExperimentError as e:
        return _fail('status', e, 2 if e.usage else 1)
    return 0


def report(words: list[str]) -> int:
    """`./chef report EXPERIMENT`."""
    args = _parser('report', 'Write report.html and report.md into an experiment\'s folder.', None).parse_args(words)
    try:
        from chef_learning.experiment.report import write
        for path in write(Experiment(args.experiment)):
            print(path)
    except ExperimentError as e:
        return _fail('report', e, 2 if e.usage else 1)
    except OSError as e:
        return _fail('report', f'{e.filename or args.experiment}: {e.strerror or e}', 1)
    return 0


def _fail(name: str, error: object, code: int) -> int:
    print(f'chef {name}: {error}', file=sys.stderr)
    return code
