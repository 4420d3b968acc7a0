# SPDX-License-Identifier: Apache-2.0
"""Metrics to disk: one JSON object a line, and TensorBoard event files beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path


class MetricsWriter:
    """Appends to `<folder>/metrics.jsonl` and, if TensorBoard is installed, to `<folder>/tensorboard/`.

    A line holds `update`, `time` (s since the epoch) and the metrics by name.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # line by line: a learner that is killed loses nothing that it reported
        self._file = open(folder / 'metrics.jsonl', 'a', buffering=1, encoding='utf-8')
        self._board = _summary_writer(folder / 'tensorboard')

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """One line, of after `update` updates."""
        now = round(time.time(), 3)
        self._file.write(json.dumps({'update': update, 'time': now, **metrics}) + '\n')
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, update, walltime=now)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _summary_writer(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), flush_secs=5)
