# SPDX-License-Identifier: Apache-2.0
"""Running the set-up's commands in sight of the user."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


class SetupError(Exception):
    """The set-up cannot go on; the message is the one line the user needs."""


def say(text: str) -> None:
    """One line of progress, on standard error so that a command's own output stays clean."""
    print(f"chef: {text}", file=sys.stderr, flush=True)


def run(
    command: list[str], *, what: str, timeout_s: float, env: dict[str, str] | None = None, cwd: Path | None = None
) -> None:
    """Run `command` with its output shown, on standard error.

    Raises:
        SetupError: it failed, was not found or ran past its deadline.
    """
    try:
        code = subprocess.run(
            command, env=env, cwd=cwd, timeout=timeout_s, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()
        ).returncode
    except FileNotFoundError:
        raise SetupError(f"{what}: {command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise SetupError(f"{what}: not done after {timeout_s:.0f} s; call again to go on from here") from None
    if code != 0:
        raise SetupError(f"{what} failed with status {code}: {shlex.join(command)}")
