# SPDX-License-Identifier: Apache-2.0
"""One line of a doctor's report."""

from __future__ import annotations

from dataclasses import dataclass

from chef_task.errors import one_line

OK, WARN, FAIL = 'ok', 'WARN', 'FAIL'


@dataclass(frozen=True)
class Verdict:
    """level: OK, WARN (the cell may run) or FAIL (it may not). what: was looked at. text: what was found, one line."""

    level: str
    what: str
    text: str

    def __str__(self) -> str:
        return f'{self.level:4}  {self.what:28}  {one_line(self.text)}'
