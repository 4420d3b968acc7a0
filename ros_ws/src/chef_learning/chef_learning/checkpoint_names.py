# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints a folder holds: for those who look at learners without PyTorch, which takes seconds to import."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r'update_(\d{9,})\.ckpt')


def checkpoints(folder: str | Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    folder = Path(folder)
    found = {int(m[1]): p for p in (folder.iterdir() if folder.is_dir() else ())
             if (m := _NAME.fullmatch(p.name))}
    return [found[k] for k in sorted(found)]


def newest_update(folder: str | Path) -> int:
    """Updates of the newest checkpoint, 0 if there is none."""
    there = checkpoints(folder)
    return int(_NAME.fullmatch(there[-1].name)[1]) if there else 0
