# SPDX-License-Identifier: Apache-2.0
"""What the set-up depends on, as hashes; a step is repeated only when its inputs changed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from chef_bringup.setup import ros

# Files whose contents the build reads; of all others only the name matters, as --symlink-install links them.
_CONTENT_NAMES = {"CMakeLists.txt", "package.xml", "setup.py", "setup.cfg", "pyproject.toml"}
_CONTENT_SUFFIXES = {".msg", ".srv", ".action", ".cmake", ".in", ".c", ".cc", ".cpp", ".h", ".hpp"}
_IGNORED_FOLDERS = {"__pycache__", ".pytest_cache", ".hypothesis", "test"}
_IGNORED_SUFFIXES = {".pyc", ".md"}


def digest(parts: Iterable[str | bytes]) -> str:
    """A hash over `parts` in their order; where one part ends and the next begins counts."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.hexdigest()


def environment_inputs(root: Path) -> str:
    """Hash of what decides the Python environment."""
    parts: list[str | bytes] = ["environment 1", sys.version, os.path.realpath(sys.executable), str(root)]
    parts.append(ros.identity())
    # not those in requirements/benchmarks: they are of environments of their own
    for path in sorted((root / "requirements").glob("*.txt")):
        parts += [path.name, path.read_bytes()]
    return digest(parts)


def benchmark_inputs(root: Path, name: str) -> str:
    """Hash of what decides the environment of `requirements/benchmarks/<name>.txt`."""
    path = root / "requirements" / "benchmarks" / f"{name}.txt"
    return digest(["benchmark 1", sys.version, os.path.realpath(sys.executable), str(root), path.read_bytes()])


def _files(folder: Path) -> Iterable[Path]:
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _IGNORED_FOLDERS and not name.endswith(".egg-info"))
        for name in sorted(names):
            path = Path(current) / name
            if path.suffix not in _IGNORED_SUFFIXES:
                yield path


def workspace_inputs(root: Path) -> str:
    """Hash of what decides the build: the environment, the file lists and the build files."""
    parts: list[str | bytes] = ["workspace 1", environment_inputs(root), (root / "colcon.meta").read_bytes()]
    for folder in (root / "ros_ws" / "src", root / "launch", root / "config"):
        for path in _files(folder):
            parts.append(str(path.relative_to(root)))
            if path.name in _CONTENT_NAMES or path.suffix in _CONTENT_SUFFIXES:
                parts.append(path.read_bytes())
    return digest(parts)


def read_stamp(path: Path) -> str | None:
    """The hash that a finished step left, or None."""
    try:
        return str(json.loads(path.read_text())["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(path: Path, inputs: str) -> None:
    """Record a finished step. The last thing a step does, and all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"inputs": inputs}) + "\n")
    os.replace(partial, path)
