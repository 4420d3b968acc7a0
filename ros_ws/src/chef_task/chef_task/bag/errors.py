# SPDX-License-Identifier: Apache-2.0
"""The errors of this package."""

from __future__ import annotations

from pathlib import Path

from chef_task.errors import OneLineError


class BagError(OneLineError):
    """A bag cannot be written or read; the text is one line that names the bag and the cause."""


class AuditError(BagError):
    """A bag was written, but its audit found faults. path: where it is now. faults: one line each."""

    def __init__(self, path: Path, faults: tuple[str, ...]):
        super().__init__(f'{path}: the audit found {len(faults)} faults: {"; ".join(faults)}'
                         if len(faults) > 1 else f'{path}: the audit found: {faults[0]}')
        self.path, self.faults = path, faults
