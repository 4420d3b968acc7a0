# SPDX-License-Identifier: Apache-2.0
"""Where things are: the checkout, or the installed share folder."""

from __future__ import annotations

import os
from pathlib import Path

# With --symlink-install the installed module is a link, so this resolves to the checkout there too.
_CHECKOUT = Path(__file__).resolve().parents[4]


def checkout() -> Path | None:
    """The checkout this module belongs to, or None when it was installed by copying."""
    return _CHECKOUT if (_CHECKOUT / "chef").is_file() and (_CHECKOUT / "ros_ws").is_dir() else None


def share() -> Path:
    """The folder that holds `launch/` and `config/`.

    Raises:
        FileNotFoundError: neither a checkout nor an installed package is in sight.
    """
    root = checkout()
    if root is not None:
        return root
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        folder = Path(prefix) / "share" / "chef_bringup"
        if prefix and folder.is_dir():
            return folder
    raise FileNotFoundError("chef_bringup is neither in a checkout nor in AMENT_PREFIX_PATH")


def resolve(value: str) -> Path:
    """An absolute path for `value`: as given from the caller's directory, else below `share()`."""
    path = Path(os.path.expanduser(value))
    if path.is_absolute():
        return path
    here = Path.cwd() / path
    return here if os.path.exists(here) else share() / path


def output(value: str) -> Path:
    """An absolute path for something to be written, from the caller's directory."""
    return Path(os.path.abspath(os.path.expanduser(value)))
