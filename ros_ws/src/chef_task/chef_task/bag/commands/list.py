# SPDX-License-Identifier: Apache-2.0
"""`./chef bags list`: a table of episodes."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import printable, table, time_text
from chef_task.bag.either import find_either, read_either
from chef_task.bag.files import REASONS_FILE, find_quarantined
from chef_task.errors import OneLineError
from chef_task.records import EpisodeRecord

HELP = 'a table of the episodes under a folder'
DESCRIPTION = ('One line an episode: time (UTC), triplet, policy version, steps, why it ended, success, peak wrist '
               'force in N, and the return of every task. Bags and files that cannot be read are listed with the '
               'reason; partial bags are left out, and those in quarantine/ are counted.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('folder', metavar='DIR', type=Path, help='a run, its episodes folder, or one bag or file')
    parser.add_argument('--quarantine', action='store_true',
                        help='list the bags that failed their audit, with the reasons, instead of the others')


def run(args: Namespace) -> int:
    quarantined = find_quarantined(args.folder) if args.folder.is_dir() else []
    if args.quarantine:
        for path in quarantined:
            print(printable(f'{path.name}: {_reasons(path)}'))
        print(f'{len(quarantined)} in quarantine')
        return 0
    status = _list(args)
    if quarantined:
        print(f'{len(quarantined)} in quarantine (--quarantine lists them)')
    return status


def _reasons(path: Path) -> str:
    try:
        faults = json.loads((path / REASONS_FILE).read_text('utf8'))['faults']
        return '; '.join(map(str, faults))
    except (OSError, ValueError, KeyError, TypeError) as e:
        return f'its {REASONS_FILE} cannot be read: {e!r}'


def _list(args: Namespace) -> int:
    records: list[EpisodeRecord] = []
    bad: list[OneLineError] = []
    paths = find_either(args.folder)
    if not paths:
        print(f'no episodes in {args.folder}')
        return 0
    for path in paths:
        try:
            records.append(read_either(path))
        except OneLineError as e:
            bad.append(e)
    if records:
        tasks = list(dict.fromkeys(t for r in records for t in r.tasks))
        rows = []
        for r in records:
            returns = dict(zip(r.tasks, r.returns))
            rows.append([printable(c) for c in (
                time_text(r), str(r.triplet), r.policy_version or '-', str(r.steps), r.termination_reason,
                'yes' if r.success else 'no', f'{r.peak_force_n:.1f}',
                *(f'{returns[t]:.1f}' if t in returns else '' for t in tasks), r.episode_id)])
        head = ['time (UTC)', 'triplet', 'policy', 'steps', 'reason', 'success', 'peak N',
                *map(printable, tasks), 'episode']
        print('\n'.join(table(head, rows)))
    successes = sum(r.success for r in records)
    print(f'{len(records)} episodes, {successes} successful, {sum(r.steps for r in records)} steps')
    for e in bad:
        print(f'unreadable: {printable(str(e))}')
    return 0
