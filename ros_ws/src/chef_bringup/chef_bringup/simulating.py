# SPDX-License-Identifier: Apache-2.0
"""`./chef simulate`: the learner's fleet of the robot's cells, with the cell of this checkout."""

from __future__ import annotations

import importlib

from chef_bringup import paths


def main(words: list[str]) -> int:
    """Run the fleet; returns its exit status."""
    cell = paths.share() / "config" / "cells" / "sim.yaml"
    return importlib.import_module("chef_learning.simulate").main(words, str(cell))
