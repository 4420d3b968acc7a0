# SPDX-License-Identifier: Apache-2.0
"""Text for a terminal: what all commands print with."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from chef_task.bag.errors import BagError
from chef_task.records import EpisodeRecord

_DATED_NS = 365 * 86_400 * 1_000_000_000     # a stamp below that, of 1970, is of a clock that began with the simulation


def printable(text: str) -> str:
    """Text of unknown origin on one line, without control characters that a terminal would obey."""
    return ''.join(c if c.isprintable() else '?' for c in text)


def output_file(wanted: Path | None, name: str = '', suffix: str = '') -> Path:
    """Where to write: what was asked for, else `name` in the current folder; BagError where no file can be."""
    if wanted is None:      # the name is what a bag says: it must not lead out of this folder
        return Path(re.sub(r'[^\w.-]|^\.+', '_', name) + suffix)
    if not wanted.absolute().parent.is_dir():
        raise BagError(f'{wanted}: no such folder: {wanted.absolute().parent}')
    if wanted.is_dir():
        raise BagError(f'{wanted}: cannot be written: it is a folder')
    return wanted


def time_text(record: EpisodeRecord) -> str:
    """When the episode began, UTC; from its id, since stamps of simulated time start at zero; '-' without a date."""
    m = re.match(r'(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)', record.episode_id)
    if m:
        return '{}-{}-{} {}:{}:{}'.format(*m.groups())
    if 0 <= record.start_ns < _DATED_NS:
        return '-'
    try:
        return f'{datetime.fromtimestamp(record.start_ns // 1_000_000_000, timezone.utc):%Y-%m-%d %H:%M:%S}'
    except (ValueError, OverflowError, OSError):
        return '?'


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines with columns as wide as their widest cell; numbers to the right."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]

    def cell(text: str, i: int) -> str:
        numeric = all(re.fullmatch(r'[-+.\d]*|nan|inf', r[i]) for r in rows)
        return text.rjust(widths[i]) if numeric else text.ljust(widths[i])

    return ['  '.join(cell(r[i], i) for i in range(len(head))).rstrip() for r in [head, *rows]]
