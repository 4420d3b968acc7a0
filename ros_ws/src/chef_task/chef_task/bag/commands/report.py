# SPDX-License-Identifier: Apache-2.0
"""`./chef bags report`: a page about all episodes under a folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import output_file
from chef_task.bag.report import gather

HELP = 'a page (one HTML file) about all the episodes under a folder'
DESCRIPTION = ('Writes one HTML file that needs no network: success and the return of every task over time, by triplet '
               'and by policy version, why episodes ended, force peaks, quarantine, unreadable bags, disk use, and '
               'filmstrips of a few episodes. Only those few bags are opened, of the others the summaries are read.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('folder', metavar='DIR', type=Path, help='a run, or a folder of runs')
    parser.add_argument('--output', metavar='HTML', type=Path,
                        help='file of the page (default: report.html in the current folder)')


def run(args: Namespace) -> int:
    output = output_file(args.output, 'report', '.html')
    report = gather(args.folder)
    from chef_task.bag.report_page import save_report

    save_report(report, output)
    print(f'{len(report.rows)} episodes, {len(report.quarantined)} in quarantine, {len(report.unreadable)} unreadable: '
          f'report written to {output}')
    return 0
