# SPDX-License-Identifier: Apache-2.0
"""`./chef bags`: list what was recorded, show one episode, check that bags hold what they must."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from chef_task.bag.errors import BagError
from chef_task.bag.files import find_bags
from chef_task.bag.reader import Episode, read_summary, recompute_rewards
from chef_task.records import EpisodeRecord


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, as all else here does."""

    def error(self, message: str):
        print(f'{self.prog}: {message} (see --help)', file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog='./chef bags', description='Look at recorded episodes.')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    listing = commands.add_parser(
        'list', help='a table of the episodes under a folder',
        description='One line an episode: time (UTC), triplet, policy version, steps, why it ended, success, '
                    'peak wrist force in N, and the return of every task. Bags that cannot be read are '
                    'listed with the reason; partial bags and quarantine/ are left out.')
    listing.add_argument('folder', metavar='DIR', help='a run, its episodes folder, or one bag')
    show = commands.add_parser(
        'show', help='one episode in figures, and a picture of it',
        description='Prints one episode and draws the cameras over time, the rewards of all tasks with the '
                    'task that acted, and the wrist force with its limit.')
    show.add_argument('episode', metavar='EPISODE', help='a bag')
    show.add_argument('--output', metavar='PNG', type=Path, help='file of the picture (default: <episode id>.png in the current folder)')
    check = commands.add_parser(
        'check', help='read everything and compare with what was recorded',
        description='Reads every bag in full: each Step must find the samples it names, and rewards computed '
                    'anew must equal the recorded ones. Exit status 1 if a bag fails.')
    check.add_argument('folder', metavar='DIR', help='a run, its episodes folder, or one bag')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 1 if `check` found a fault, 2 for bad input."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as e:             # argparse has printed what is wrong, or the help
        return int(e.code or 0)
    try:
        if args.command == 'list':
            return _list(Path(args.folder))
        if args.command == 'check':
            return _check(Path(args.folder))
        return _show(Path(args.episode), args.output)
    except BagError as e:
        print(f'chef bags: {_printable(str(e))}', file=sys.stderr)
        return 2
    except BrokenPipeError:             # `| head` has seen enough; keep the interpreter from flushing into it
        sys.stdout = None
        return 0


def _printable(text: str) -> str:
    """Text of unknown origin on one line, without control characters that a terminal would obey."""
    return ''.join(c if c.isprintable() else '?' for c in text)


def _time(record: EpisodeRecord) -> str:
    """When the episode began, UTC; from its id, since stamps of simulated time start at zero."""
    m = re.match(r'(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)', record.episode_id)
    if m:
        return '{}-{}-{} {}:{}:{}'.format(*m.groups())
    try:
        return f'{datetime.fromtimestamp(record.start_ns // 1_000_000_000, timezone.utc):%Y-%m-%d %H:%M:%S}'
    except (ValueError, OverflowError, OSError):
        return '?'


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines with columns as wide as their widest cell; numbers to the right."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]

    def cell(text: str, i: int) -> str:
        numeric = all(re.fullmatch(r'[-+.\d]*|nan|inf', r[i]) for r in rows)
        return text.rjust(widths[i]) if numeric else text.ljust(widths[i])

    return ['  '.join(cell(r[i], i) for i in range(len(head))).rstrip() for r in [head, *rows]]


def _list(folder: Path) -> int:
    records: list[EpisodeRecord] = []
    bad: list[BagError] = []
    paths = find_bags(folder)
    if not paths:
        print(f'no episodes in {folder}')
        return 0
    for path in paths:
        try:
            records.append(read_summary(path))
        except BagError as e:
            bad.append(e)
    if records:
        tasks = list(dict.fromkeys(t for r in records for t in r.tasks))
        rows = []
        for r in records:
            returns = dict(zip(r.tasks, r.returns))
            rows.append([_printable(c) for c in (
                _time(r), str(r.triplet), r.policy_version or '-', str(r.steps), r.termination_reason,
                'yes' if r.success else 'no', f'{r.peak_force_n:.1f}',
                *(f'{returns[t]:.1f}' if t in returns else '' for t in tasks), r.episode_id)])
        head = ['time (UTC)', 'triplet', 'policy', 'steps', 'reason', 'success', 'peak N',
                *map(_printable, tasks), 'episode']
        print('\n'.join(_table(head, rows)))
    successes = sum(r.success for r in records)
    print(f'{len(records)} episodes, {successes} successful, {sum(r.steps for r in records)} steps')
    for e in bad:
        print(f'unreadable: {_printable(str(e))}')
    return 0


def _show(path: Path, output: Path | None) -> int:
    if output is not None and not output.absolute().parent.is_dir():
        raise BagError(f'{output}: no such folder: {output.absolute().parent}')
    episode = Episode.open(path)
    r = episode.record
    rows = [('episode', r.episode_id), ('time', f'{_time(r)} UTC'), ('cell', r.cell),
            ('triplet', f'{r.triplet}, seed {r.seed}'), ('policy', r.policy_version or '-'),
            ('steps', f'{r.steps} in {(r.end_ns - r.start_ns) / 1e9:.1f} s, {episode.observation}'),
            ('ended by', r.termination_reason), ('success', 'yes' if r.success else 'no'),
            ('peak force', f'{r.peak_force_n:.1f} N'),
            ('tasks', ', '.join(f'{task} from step {index}' for index, task in episode.schedule()) or '-')]
    rows += [(f'return {task}', f'{value:.2f}') for task, value in zip(r.tasks, r.returns)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f'{_printable(name):{width}}  {_printable(value)}')
    for topic, (msgtype, count) in sorted(episode.topics().items()):
        print(f'{count:8d}  {_printable(topic)}  {_printable(msgtype)}')
    if output is None:      # the id is what the bag says: it must not lead out of this folder
        output = Path(re.sub(r'[^\w.-]|^\.+', '_', r.episode_id) + '.png')
    from chef_task.bag.plots import save_filmstrip      # matplotlib takes a second to import

    try:
        save_filmstrip(episode, output)
    except OSError as e:
        raise BagError(f'{output}: cannot be written: {e.strerror or e}') from e
    print(f'picture written to {output}')
    return 0


def _fault(path: Path) -> str:
    """What is wrong with a bag; empty if nothing is."""
    try:
        episode = Episode.open(path)
        for _ in episode.iterate():
            pass
        steps = episode.steps()
        if not steps:
            return f'{path}: has no Steps'
        recorded, again = np.stack([s.rewards for s in steps]), recompute_rewards(episode)
    except BagError as e:
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


def _check(folder: Path) -> int:
    paths = find_bags(folder)
    faults = [f for f in map(_fault, paths) if f]
    for fault in faults:
        print(f'failed: {_printable(fault)}')
    print(f'{len(paths) - len(faults)} of {len(paths)} episodes hold what they must')
    return 1 if faults else 0
