# SPDX-License-Identifier: Apache-2.0
"""The distribution's packages: installed where we are root, asked for in one line where not."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from chef_bringup.setup.progress import SetupError, run, say


def needed(root: Path, own_python: bool | None = None) -> list[str]:
    """The packages of apt.txt that apply; `own_python`: the distribution's own Python runs us."""
    if own_python is None:
        own_python = os.path.realpath(sys.executable).startswith("/usr/bin/")
    packages = []
    for line in (root / "requirements" / "apt.txt").read_text().splitlines():
        words = line.split("#")[0].split()
        if words and (own_python or "[python]" not in words):
            packages.append(words[0])
    return packages


def missing(packages: list[str]) -> list[str]:
    """Those of `packages` that dpkg does not have installed."""
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Status}\n", *packages],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    installed = {line.split("\t")[0] for line in answer.stdout.splitlines() if line.endswith("\tinstalled")}
    return [package for package in packages if package not in installed]


def ensure(root: Path, *, is_root: bool | None = None) -> None:
    """See that the system packages are there.

    Raises:
        SetupError: they are not and we may not install them; the message is what to type.
    """
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        _check_by_hand()
        return
    lacking = missing(needed(root))
    if lacking:
        is_root = os.geteuid() == 0 if is_root is None else is_root
        if not is_root:
            raise SetupError(ask(lacking))
        say(f"installing system packages: {' '.join(lacking)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        wait = ["-o", "DPkg::Lock::Timeout=120"]
        run(["apt-get", "update"], what="apt-get update", timeout_s=300, env=env, lock=False)
        run(
            ["apt-get", *wait, "install", "-y", "--no-install-recommends", *lacking],
            what="installing system packages", timeout_s=1200, env=env, lock=False,
        )  # fmt: skip
    _check_by_hand()


def ask(packages: list[str]) -> str:
    """What a user without the right to install has to type."""
    command = shlex.join(["sudo", "apt-get", "install", "-y", "--no-install-recommends", *packages])
    return f"system packages are missing and this is not root; run: {command}"


def _check_by_hand() -> None:
    """What is needed, looked for itself: also right on other distributions and for other Pythons."""
    lacking = [tool for tool in ("cmake", "g++", "make", "bash") if shutil.which(tool) is None]
    importlib.invalidate_caches()
    if importlib.util.find_spec("ensurepip") is None:
        lacking.append("Python's venv and ensurepip")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        lacking.append(f"Python's headers ({sysconfig.get_path('include')}/Python.h)")
    if lacking:
        raise SetupError(f"please install: {', '.join(lacking)}")
