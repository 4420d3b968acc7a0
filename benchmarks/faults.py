# SPDX-License-Identifier: Apache-2.0
"""The fault campaign: puts faults into the running graph and shows by kind what came of them.

    ./chef bench faults [--count 200] [--seed 0] [--only KIND] [--log FILE]

A fault that failed is repeated alone by `--only KIND --seed N --count 1`, with the kind and the seed that its line
shows; the run it happened in is kept. With --log every verdict is appended to a file, and what is in it already is
not tried again. See docs/safety.md for what must come of each fault.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT / 'tests' / 'faults')]

import fake_cell  # noqa: E402
import numpy as np  # noqa: E402
from campaign import Campaign, may_mount, plan  # noqa: E402
from cell import REAL  # noqa: E402
from kinds import KINDS  # noqa: E402
from verdict import Verdict  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='./chef bench faults', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=200, help='faults (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of everything random (default: %(default)s)')
    parser.add_argument('--only', metavar='KIND', action='append', choices=sorted(KINDS),
                        help='this kind alone; may be given again')
    parser.add_argument('--log', type=Path, metavar='FILE', help='append verdicts to FILE, and skip those in it')
    parser.add_argument('--list', action='store_true', help='show the kinds and stop')
    options = parser.parse_args()
    if options.count < 1 or options.seed < 0:
        parser.error('--count must be positive and --seed not negative')
    return options


def logged(path: Path | None) -> list[Verdict]:
    """The verdicts of an earlier, interrupted campaign."""
    if path is None or not path.exists():
        return []
    try:
        return [Verdict(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError):
        raise SystemExit(f'faults: {path} is not a log of this benchmark') from None


def untried() -> list[tuple[str, str]]:
    """(kind, why) of those that this machine does not allow."""
    mount, lacking = may_mount(), fake_cell.missing()
    return ([(name, 'it needs a mount, and so the rights of root') for name, kind in KINDS.items()
             if kind.small_disk and not mount]
            + [(name, f'a fake cell needs {lacking}') for name, kind in KINDS.items() if kind.profile in REAL and lacking])


def figures(values: list[float | None]) -> str:
    """p50 / p99 / max of those that apply."""
    known = [v for v in values if v is not None]
    return ' / '.join(f'{v:.0f}' for v in np.percentile(known, [50, 99, 100])) if known else '-'


def row(name: str, verdicts: list[Verdict]) -> str:
    lost = [v.lost_s for v in verdicts if v.lost_s is not None]
    cells = (name, len(verdicts), sum(v.passed for v in verdicts), figures([v.detection_ms for v in verdicts]),
             figures([v.stop_ms for v in verdicts]), figures([v.total_ms for v in verdicts]),
             f'{max(lost):.2f}' if lost else '-')
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def table(verdicts: list[Verdict]) -> str:
    """Markdown: one row a kind, and one for all."""
    lines = ['| fault | tries | passed | detection p50 / p99 / max, ms | stop after detection, ms | fault to rest, ms '
             '| data lost max, s |', '|---|---|---|---|---|---|---|']
    for name in sorted({v.kind for v in verdicts}):
        lines.append(row(name, [v for v in verdicts if v.kind == name]))
    return '\n'.join([*lines, row('all', verdicts)])


def main() -> int:
    options = arguments()
    if options.list:
        print('\n'.join(KINDS))
        return 0
    names = options.only or list(KINDS)
    for name, why in () if options.only else untried():
        names.remove(name)
        print(f'not tried: {name}: {why}')
    verdicts = logged(options.log)
    known = {(v.kind, v.seed) for v in verdicts}
    jobs = [job for job in plan(options.count, options.seed, names) if (job.kind.name, job.seed) not in known]
    total, started = len(jobs) + len(verdicts), time.monotonic()

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if options.log is not None:
            with options.log.open('a') as f:
                f.write(json.dumps(vars(verdict)) + '\n')
        outcome = 'passed' if verdict.passed else 'FAILED: ' + '; '.join(verdict.problems)
        print(f'{time.monotonic() - started:5.0f} s  {len(verdicts)}/{total}  {verdict.kind}, seed {verdict.seed}: '
              f'{verdict.reason or "-"}; {outcome}', flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)   # the running graph must not be left behind
    folder = Path(tempfile.mkdtemp(prefix='chef-faults-'))
    with suppress(KeyboardInterrupt):   # what there is, is shown; --log goes on from there
        Campaign(folder, tell).run(jobs)
    print('\n' + table(verdicts) + '\n')
    failed = [v for v in verdicts if not v.passed]
    for v in failed:
        print(f"FAILED: ./chef bench faults --only '{v.kind}' --seed {v.seed} --count 1")
        print(f"        {'; '.join(v.problems)}")
    if any(folder.iterdir()):
        print(f'the runs of faults that failed are in {folder}')
    else:
        folder.rmdir()
    left = f', {total - len(verdicts)} not tried' if len(verdicts) < total else ''
    print(f'{len(verdicts)} faults, {len(verdicts) - len(failed)} passed, {len(failed)} failed{left}')
    return 1 if failed or left else 0


if __name__ == '__main__':
    sys.exit(main())
