# SPDX-License-Identifier: Apache-2.0
"""Checks before anything starts: a run that cannot end well should not begin."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from chef_bringup.graph import ArgumentError


def writable_output(folder: Path) -> None:
    """Make the folder and write to it; raises ArgumentError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"chef")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"output: cannot write to {str(folder)!r}: {reason}") from None


def free_space(folder: Path, least_gib: float) -> None:
    """Raises ArgumentError when less is free on the folder's disk."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < least_gib:
        raise ArgumentError(
            f"output: only {free:.1f} GiB free on the disk of {str(folder)!r}, {least_gib:g} are needed (min_free_gib)"
        )


def readable_file(name: str, path: Path) -> None:
    """Raises ArgumentError when `path`, of argument `name`, is not a file that can be read."""
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise ArgumentError(f"{name}: there is no file {str(path)!r}")
    if not os.access(path, os.R_OK):
        raise ArgumentError(f"{name}: {str(path)!r} cannot be read")
