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
    lines = _lines(root)
    return [w[0] for w in lines if "[optional]" not in w and (own_python or "[python]" not in w)]


def optional(root: Path) -> list[str]:
    """The packages of apt.txt that CHEF can do without, as far as it says what is then missing."""
    return [words[0] for words in _lines(root) if "[optional]" in words]


def _lines(root: Path) -> list[list[str]]:
    lines = (root / "requirements" / "apt.txt").read_text().splitlines()
    return [words for line in lines if (words := line.split("#")[0].split())]


def missing(packages: list[str]) -> list[str]:
    """Those of `packages` that dpkg does not have installed."""
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Status}\n", *packages],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    installed = {line.split("\t")[0] for line in answer.stdout.splitlines() if line.endswith("\tinstalled")}
    return [package for package in packages if package not in installed]


def ensure(root: Path, *, is_root: bool | None = None) -> None:
    """See that the system packages are there; the optional ones where we may install them and there are such.

    Raises:
        SetupError: they are not and we may not install them; the message is what to type.
    """
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        _check_by_hand()
        return
    lacking, wanted = missing(needed(root)), missing(optional(root))
    is_root = os.geteuid() == 0 if is_root is None else is_root
    if lacking and not is_root:
        raise SetupError(ask(lacking))
    if is_root and (lacking or wanted):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], what="apt-get update", timeout_s=300, env=env, lock=False)
        if lacking:
            _install(lacking, env)
        if wanted:
            try:
                _install(wanted, env)
            except SetupError as error:
                say(f"going on without {' '.join(wanted)}: {error}")
    elif wanted:
        say(f"going on without {' '.join(wanted)}, which are optional (requirements/apt.txt)")
    _check_by_hand()


def _install(packages: list[str], env: dict[str, str]) -> None:
    say(f"installing system packages: {' '.join(packages)}")
    run(
        ["apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends", *packages],
        what="installing system packages", timeout_s=1200, env=env, lock=False,
    )  # fmt: skip


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
