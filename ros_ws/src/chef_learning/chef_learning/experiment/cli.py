# SPDX-License-Identifier: Apache-2.0
"""`./chef stage`, `run`, `status` and `report`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from chef_learning.experiment.config import KINDS
from chef_learning.experiment.folder import Experiment, ExperimentError
from chef_task.episode_file import EpisodeFileError


def _parser(name: str, text: str, cell: str | None) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=f'chef {name}', description=text)
    if name == 'stage':
        p.add_argument('kind', choices=tuple(KINDS), help='the first of this kind that is not finished')
    p.add_argument('experiment', type=Path, help='folder with experiment.yaml, see docs/experiments.md')
    if name in ('stage', 'run'):
        p.add_argument('--cell', type=Path, default=cell, required=cell is None, help='configuration of the cell (default: '
                       '%(default)s)')
        p.add_argument('--ray', metavar='ADDRESS', default='', help='candidates train on a Ray cluster: host:port, auto (the '
                       'one that this machine is of), or local (one made for this call)')
    if name == 'report':
        p.add_argument('--cell', type=Path, default=cell, help='configuration of the simulated cell, to picture episodes that '
                       'were kept without images (default: %(default)s)')
    return p


def stage(words: list[str], cell: str | None = None, launch: tuple[str, ...] = ()) -> int:
    """`./chef stage KIND EXPERIMENT`; returns the exit code as `run` does."""
    args = _parser('stage', 'Run one stage of an experiment, or go on with it.', cell).parse_args(words)
    return _work('stage', args, launch, lambda e: next(([s] for s in e.stages if s.kind == args.kind and not e.finished(s)), []))


def run(words: list[str], cell: str | None = None, launch: tuple[str, ...] = ()) -> int:
    """`./chef run EXPERIMENT`: 0 done, 1 failed, 2 wrong input, 130 or 143 stopped."""
    args = _parser('run', 'Run all stages of an experiment that are not finished, one after the other.', cell).parse_args(words)
    return _work('run', args, launch, lambda e: list(e.stages))


def _work(name: str, args: argparse.Namespace, launch: tuple[str, ...], chosen) -> int:
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))

    def work() -> int:
        experiment = Experiment(args.experiment)
        lock = experiment.lock()
        try:
            from chef_learning.experiment import stages
            context = stages.Work(experiment, args.cell, lambda line: print(line, flush=True), lambda: bool(asked), launch,
                                  args.ray)
            wanted = chosen(experiment)
            if not wanted:
                print(f'no stage {getattr(args, "kind", "")} is left to do')
            for one in wanted:
                if asked or not stages.run(context, one):
                    return 128 + asked[0]
                print(f'{one.name}: finished', flush=True)
        finally:
            os.close(lock)
        return 0
    return _tell(name, args.experiment, work)


def status(words: list[str]) -> int:
    """`./chef status EXPERIMENT`."""
    args = _parser('status', 'How far an experiment is, and what it has cost.', None).parse_args(words)

    def work() -> int:
        from chef_learning.experiment.status import lines
        print('\n'.join(lines(Experiment(args.experiment))))
        return 0
    return _tell('status', args.experiment, work)


def report(words: list[str], cell: str | None = None) -> int:
    """`./chef report EXPERIMENT`."""
    args = _parser('report', 'Write report.html and report.md into an experiment\'s folder.', cell).parse_args(words)

    def work() -> int:
        from chef_learning.experiment.report import write
        for path in write(Experiment(args.experiment), args.cell):
            print(path)
        return 0
    return _tell('report', args.experiment, work)


def _tell(name: str, experiment: Path, work: Callable[[], int]) -> int:
    """What `work` returns; one line and another exit code where it cannot go on."""
    try:
        return work()
    except ExperimentError as e:
        error, code = e, 2 if e.usage else 1
    except EpisodeFileError as e:       # damaged since it was written: it counts in no table before somebody has looked
        error, code = e, 1
    except OSError as e:
        error, code = f'{e.filename or experiment}: {e.strerror or e}', 1
    print(f'chef {name}: {error}', file=sys.stderr)
    return code
