# SPDX-License-Identifier: Apache-2.0
"""From a fresh machine to a built workspace. Standard library only: nothing is installed yet."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from chef_bringup.setup import environment, system, workspace
from chef_bringup.setup.lock import locked
from chef_bringup.setup.progress import SetupError

__all__ = ["SetupError", "ensure"]


def ensure(root: Path, build: bool = True) -> dict[str, str]:
    """Install and build whatever the inputs say is missing.

    Returns:
        The environment variables that a command of the workspace runs with.

    Raises:
        SetupError: with the one line to show, when something cannot be had.
    """
    start = time.monotonic()
    with locked(root):
        worked = False
        if not environment.up_to_date(root):
            system.ensure(root)
            environment.create(root)
            worked = True
        variables = environment.variables(root)
        if build:
            if not workspace.up_to_date(root):
                workspace.build(root, variables)
                worked = True
            variables = workspace.variables(root, variables)
    if worked:
        print(f"chef: ready after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return variables
