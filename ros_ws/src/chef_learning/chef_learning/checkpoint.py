# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a learner: `<folder>/update_000001000.ckpt`, complete or absent, the last two kept.

A file is one line of magic, the SHA-256 of the rest, and the rest: what torch.save wrote. It is read with
weights_only, so that a file from elsewhere cannot run code.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import torch

from chef_learning.checkpoint_names import checkpoints
from chef_learning.learner import Learner
from chef_task.errors import OneLineError

_MAGIC = b'CHEF checkpoint 1\n'
KEEP = 2


class CheckpointError(OneLineError):
    """A checkpoint cannot be used; the text is one line that names the file and the cause."""


def save(learner: Learner, folder: str | Path) -> Path:
    """Writes a checkpoint and removes all but the newest two; OSError if the disk refuses."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(learner.state(), buffer)
    data = buffer.getvalue()
    path = folder / f'update_{learner.updates:09d}.ckpt'
    temporary = folder / f'.{path.name}.partial'
    try:
        with open(temporary, 'wb') as f:
            f.write(_MAGIC + hashlib.sha256(data).digest() + data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> dict:
    """The state that `save` wrote, for `Learner.restore`.

    Raises:
      CheckpointError: missing, truncated, damaged, or not a checkpoint.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as e:
        raise CheckpointError(f'{path}: cannot be read: {e.strerror}') from None
    if not raw.startswith(_MAGIC):
        raise CheckpointError(f'{path}: not a checkpoint, or of another format')
    head = len(_MAGIC) + 32
    if hashlib.sha256(raw[head:]).digest() != raw[len(_MAGIC):head]:
        raise CheckpointError(f'{path}: truncated or damaged: its checksum does not match')
    try:
        return torch.load(io.BytesIO(raw[head:]), map_location='cpu', weights_only=True)
    except Exception as e:     # the zip, pickle and tensor readers each have errors of their own
        cause = (str(e).splitlines() or [repr(e)])[0]
        raise CheckpointError(f'{path}: cannot be read: {cause}') from None


def resume(learner: Learner, folder: str | Path) -> tuple[Path | None, list[str]]:
    """Restores the newest checkpoint that is sound.

    Returns:
      Its path (None if there is none), and one line for each newer one that could not be used.

    Raises:
      CheckpointError: a sound checkpoint is of another configuration; nothing was restored.
    """
    problems = []
    for path in reversed(checkpoints(folder)):
        try:
            state = load(path)
        except CheckpointError as e:
            problems.append(str(e))
            continue
        try:
            learner.restore(state)
        except ValueError as e:
            raise CheckpointError(f'{path}: {e}') from None
        return path, problems
    return None, problems
