# SPDX-License-Identifier: Apache-2.0
"""Executables that start other programs as nodes of the view graph: `view_rviz` and `view_bag`."""

from __future__ import annotations

import os
import shutil
import sys

from chef_task.bag.codec import compressed_topic
from chef_task.spaces import CAMERAS, STREAMS

from chef_bringup import paths
from chef_bringup.graphs.view import BAG_VARIABLE

# Commands are left out: a bag that is looked at must never move an arm.
PLAYED = (
    *(s.topic for s in STREAMS.values()), *(compressed_topic(STREAMS[c].topic) for c in CAMERAS), "step", "episode",
)  # fmt: skip


def rviz_command(arguments: list[str]) -> list[str]:
    """The command line of rviz2 with the configuration of this package."""
    return ["rviz2", "-d", str(paths.share() / "config" / "chef.rviz"), *arguments]


def bag_command(bag: str, cell: str) -> list[str]:
    """The command line that plays what is looked at of a bag, slowly enough started for rviz to be there."""
    topics = [f"/{cell}/{topic}" for topic in PLAYED]
    return ["ros2", "bag", "play", bag, "--clock", "100", "--delay", "4", "--topics", *topics]


def rviz() -> None:
    """Executable `view_rviz`."""
    _become(rviz_command(sys.argv[1:]))


def bag() -> None:
    """Executable `view_bag`; takes no ROS arguments, as `ros2 bag play` knows none."""
    from chef_task.bag import BagError, read_summary

    path = os.environ.get(BAG_VARIABLE, "")
    try:
        cell = read_summary(path).cell
    except BagError as error:
        print(f"view_bag: {error}", file=sys.stderr)
        sys.exit(2)
    _become(bag_command(path, cell))


def _become(command: list[str]) -> None:
    program = shutil.which(command[0])
    if program is None:
        print(f"{command[0]} is not installed here", file=sys.stderr)
        sys.exit(2)
    os.execv(program, command)
