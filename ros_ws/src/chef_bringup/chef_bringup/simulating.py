# SPDX-License-Identifier: Apache-2.0
"""`./chef simulate`, `stage`, `run` and `report`: the learner's fleets of the robot's cells, with the cell of this checkout."""

from __future__ import annotations

import importlib
import sys

from chef_bringup import paths


def main(words: list[str]) -> int:
    """Run the fleet; returns its exit status."""
    return importlib.import_module("chef_learning.simulate").main(words, _cell())


def stage(words: list[str]) -> int:
    """Run a stage of an experiment; returns its exit status."""
    return importlib.import_module("chef_learning.experiment.cli").stage(words, _cell(), _launch())


def run(words: list[str]) -> int:
    """Run an experiment; returns its exit status."""
    return importlib.import_module("chef_learning.experiment.cli").run(words, _cell(), _launch())


def report(words: list[str]) -> int:
    """Write the report of an experiment; returns its exit status."""
    return importlib.import_module("chef_learning.experiment.cli").report(words, _cell())


def _launch() -> tuple[str, ...]:
    """The command that starts a cell's graph; arguments follow."""
    root = paths.checkout()
    start = ("ros2", "launch", "chef_bringup") if root is None else (sys.executable, str(root / "chef"), "launch")
    return (*start, "collect.launch.py")


def _cell() -> str:
    return str(paths.share() / "config" / "cells" / "sim.yaml")
