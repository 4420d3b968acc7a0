# SPDX-License-Identifier: Apache-2.0
"""Running the set-up's commands in sight of the user."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

# The lock's descriptor, for the commands to inherit: if chef is killed, what it started still holds the lock.
inherited: list[int] = []


class SetupError(Exception):
    """The set-up cannot go on; the message is the one line the user needs."""


def say(text: str) -> None:
    """One line of progress, on standard error so that a command's own output stays clean."""
    print(f"chef: {text}", file=sys.stderr, flush=True)


def run(
    command: list[str], *, what: str, timeout_s: float, env: dict[str, str] | None = None, cwd: Path | None = None,
    lock: bool = True,
) -> None:  # fmt: skip
    """Run `command` with its output shown, on standard error.

    Args:
        command: the words.
        what: names it in messages.
        timeout_s: its deadline.
        env: its environment; None: ours.
        cwd: its folder; None: ours.
        lock: whether it holds the set-up's lock too; not for what may start services.

    Raises:
        SetupError: it failed, was not found or ran past its deadline.
    """
    try:
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(),
            start_new_session=True, pass_fds=tuple(inherited) if lock else (),
        )
    except FileNotFoundError:
        raise SetupError(f"{what}: {command[0]} is not installed") from None
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _end(process)
        raise SetupError(f"{what}: not done after {timeout_s:.0f} s; call again to go on from here") from None
    except BaseException:  # Ctrl-C: nothing may go on writing where the next call begins
        _end(process)
        raise
    if code != 0:
        raise SetupError(f"{what} failed with status {code}: {shlex.join(command)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and all that it started."""
    for number, wait_s in ((signal.SIGINT, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(wait_s)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
