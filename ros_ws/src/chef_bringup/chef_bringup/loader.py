# SPDX-License-Identifier: Apache-2.0
"""Reads the graph out of a launch file, without ROS."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from chef_bringup import paths
from chef_bringup.graph import ArgumentError, Graph, did_you_mean, show

_SUFFIX = ".launch.py"


def available() -> list[str]:
    """Names of the launch files at hand."""
    return sorted(path.name for path in (paths.share() / "launch").glob(f"*{_SUFFIX}"))


def find(name: str) -> Path:
    """The file for a name (`collect.launch.py`, `collect`) or a path; or ArgumentError."""
    for text in (name, name + _SUFFIX):
        for candidate in (Path.cwd() / text, paths.share() / "launch" / text):
            if "\0" not in text and text.endswith(_SUFFIX) and os.path.isfile(candidate):
                return candidate
    raise ArgumentError(f"there is no launch file {show(name)}{did_you_mean(name, available())}")


def load(path: Path) -> Graph:
    """The `graph` of a launch file; or ArgumentError."""
    module_spec = importlib.util.spec_from_file_location("chef_launch_file", path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    graph = getattr(module, "graph", None)
    if not isinstance(graph, Graph):
        raise ArgumentError(f"{path} has no `graph`; use `ros2 launch` for it")
    return graph
