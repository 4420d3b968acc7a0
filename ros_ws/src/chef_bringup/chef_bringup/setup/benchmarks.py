# SPDX-License-Identifier: Apache-2.0
"""Environments for what benchmarks compare ours with, beside the one that everything runs in; made on first use."""

from __future__ import annotations

import os
from pathlib import Path

from chef_bringup import paths
from chef_bringup.setup import environment
from chef_bringup.setup.inputs import benchmark_inputs, read_stamp, write_stamp
from chef_bringup.setup.lock import locked
from chef_bringup.setup.progress import SetupError, say

# What makes a Python look into our environment, or into the ROS 2 that was sourced.
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH")


def ensure(root: Path, name: str, size: str) -> Path:
    """The interpreter of `.venv-<name>`, which holds `requirements/benchmarks/<name>.txt` and is made if need be.

    Args:
        root: the checkout.
        size: what it takes on disk, in words.

    Raises:
        SetupError: it cannot be made, for instance without a network; the next call goes on from there.
    """
    venv = root / f".venv-{name}"
    python, stamp = venv / "bin" / "python3", venv / "chef-stamp.json"
    with locked(root):
        if read_stamp(stamp) == benchmark_inputs(root, name) and python.exists():
            return python
        try:
            environment.make(venv, [])
            say(f"installing requirements/benchmarks/{name}.txt; this takes minutes and {size}")
            environment.install(venv, ["-r", str(root / "requirements" / "benchmarks" / f"{name}.txt")])
        except SetupError as error:
            raise SetupError(f"{venv.name} cannot be made; the packages come over the network: {error}") from None
        write_stamp(stamp, benchmark_inputs(root, name))
    return python


def ensure_here(name: str, size: str, no_checkout: str) -> Path:
    """`ensure` in this checkout.

    Raises:
        SetupError: it cannot be made; with `no_checkout`, where this is none.
    """
    root = paths.checkout()
    if root is None:
        raise SetupError(no_checkout)
    return ensure(root, name, size)


def variables() -> dict[str, str]:
    """The variables to run such an interpreter with: ours without what leads into our environment."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}
