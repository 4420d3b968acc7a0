# SPDX-License-Identifier: Apache-2.0
"""The robot's description for the views."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from chef_bringup import paths
from chef_bringup.graph import ArgumentError

# The kinematics of the arm, without shapes.
_BARE = "config/robots/sawyer.urdf"


def find_urdf(given: str = "") -> Path | None:
    """The URDF to draw: the given file, else the simulated cell's with its meshes, else the bare kinematics.

    Returns:
        None if there is none of them.

    Raises:
        ArgumentError: the given file is not there.
    """
    if given:
        path = paths.resolve(given)
        if not path.is_file():
            raise ArgumentError(f"urdf: there is no file {str(path)!r}")
        return path
    bare = paths.share() / _BARE
    return _simulated() or (bare if bare.is_file() else None)


@functools.cache
def _simulated() -> Path | None:
    """The simulated cell's robot, written for as long as this process lives; None where its models are missing."""
    try:
        from chef_sim.urdf import sawyer_urdf
    except ImportError:
        return None
    folder = Path(tempfile.mkdtemp(prefix="chef-view-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        (folder / "robot.urdf").write_text(sawyer_urdf(folder / "meshes"))
    except FileNotFoundError:       # chef_sim.assets.AssetsMissing
        return None
    return folder / "robot.urdf"


def links(urdf: Path) -> set[str]:
    """Names of the links, which are the frames that the robot's description gives.

    Raises:
        ArgumentError: the file is not a robot's description.
    """
    try:
        root = ElementTree.parse(urdf).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ArgumentError(f"urdf: {str(urdf)!r} cannot be read: {error}") from None
    found = {link.get("name", "") for link in root.iter("link")}
    if root.tag != "robot" or not found:
        raise ArgumentError(f"urdf: {str(urdf)!r} is not a robot's description")
    return found
