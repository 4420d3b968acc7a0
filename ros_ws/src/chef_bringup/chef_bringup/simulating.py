# SPDX-License-Identifier: Apache-2.0
"""`./chef simulate`, `stage`, `run` and `report`: the learner's fleets of the robot's cells, with the cell of this checkout."""

from __future__ import annotations

import importlib

from chef_bringup import paths


def main(words: list[str]) -> int:
    """Run the fleet; returns its exit status."""
    return importlib.import_module("chef_learning.simulate").main(words, _cell())


def stage(words: list[str]) -> int:
    """Run a stage of an experiment; returns its exit status."""
    return importlib.import_module("chef_learning.experiment.cli").stage(words, _cell())


def run(words: list[str]) -> int:
    """Run an experiment; returns its exit status."""
    return importlib.import_module("chef_learning.experiment.cli").run(words, _cell())


def report(words: list[str]) -> int:
    """Write the report of an experiment; returns its exit status."""
    return importlib.import_module("chef_learning.experiment.cli").report(words, _cell())


def _cell() -> str:
    return str(paths.share() / "config" / "cells" / "sim.yaml")
