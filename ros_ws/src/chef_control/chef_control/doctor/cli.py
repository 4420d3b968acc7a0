# SPDX-License-Identifier: Apache-2.0
"""`./chef doctor CELL`: a verdict a line, and an exit status that says whether the cell may run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from chef_control.doctor import checks, drivers
from chef_control.doctor.verdict import FAIL, OK, WARN, Verdict
from chef_control.fakes.cell import FakeCell
from chef_task.cell import CellConfig

FAKE_PATIENCE_S = 25.0      # s, for fakes to be up


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog='./chef doctor', description='Check a cell: config, devices, rates, ages, calibration, limits, disk. Nothing is '
        'moved; a driver may enable its robot.')
    result.add_argument('cell', metavar='CELL', type=Path, nargs='?', help='the cell\'s config, e.g. config/cells/sawyer.yaml')
    result.add_argument('--fake-devices', action='store_true', help='check fakes of the devices, before a simulated world')
    result.add_argument('--drivers', action='store_true', help='show all drivers with their settings, and stop')
    result.add_argument('--seconds', type=float, default=3.0, help='how long to listen (default: %(default)g)')
    result.add_argument('--output', type=Path, default=Path('runs'), help='where bags are to go (default: %(default)s)')
    return result


def examine(path: Path, output: Path, seconds: float, fake: bool) -> Iterator[Verdict]:
    """All verdicts on a cell; what cannot be looked at for an earlier failure is left out."""
    try:
        cell = CellConfig.load(path)
    except ValueError as e:
        yield Verdict(FAIL, 'config', str(e))
        return
    failed = False
    for verdict in checks.config(cell, path, fake):
        failed |= verdict.level == FAIL
        yield verdict
    yield from checks.limits(cell)
    yield from checks.disk(output)
    if not cell.real:
        yield Verdict(OK, 'devices', 'a simulated cell has none')
        return
    yield from checks.calibration(cell, fake)     # no reason not to open devices, which it is measured with
    if failed:
        return
    with ExitStack() as stack:
        if fake:
            try:
                fakes = stack.enter_context(FakeCell(path))
            except ValueError as e:
                yield Verdict(FAIL, 'fake devices', str(e))
                return
            for variables in fakes.environments.values():
                os.environ.update(variables)
            cell = CellConfig.load(fakes.config)
        yield from checks.Devices(cell, FAKE_PATIENCE_S if fake else 0.0).check(seconds)


def main(words: list[str] | None = None) -> int:
    """Prints the verdicts; 0: the cell may run, 1: it may not."""
    options = parser().parse_args(words)
    if options.drivers:
        print('\n'.join(drivers.manual()))
        return 0
    if options.cell is None:
        parser().error('which CELL?')
    if not 0.5 <= options.seconds <= 600:
        parser().error('--seconds must be within 0.5..600')
    signal.signal(signal.SIGTERM, signal.default_int_handler)   # fakes must not be left behind
    levels = Counter()
    for verdict in examine(options.cell, options.output, options.seconds, options.fake_devices):
        levels[verdict.level] += 1
        print(verdict, flush=True)
    print(f'{sum(levels.values())} checks: {levels[OK]} ok, {levels[WARN]} to look at, {levels[FAIL]} failed')
    if levels[FAIL]:
        print('the cell must not run until what failed is mended')
    sys.stdout.flush()
    return 1 if levels[FAIL] else 0
