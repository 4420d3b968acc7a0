# SPDX-License-Identifier: Apache-2.0
"""The robot's description for the views."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from chef_bringup import paths
from chef_bringup.graph import ArgumentError

_KNOWN = "config/robots/sawyer.urdf"


def find_urdf(given: str = "") -> Path | None:
    """The URDF to draw: the given file, else the checkout's, else the simulated cell's; None if there is none.

    Raises:
        ArgumentError: the given file is not there.
    """
    if given:
        path = paths.resolve(given)
        if not path.is_file():
            raise ArgumentError(f"urdf: there is no file {str(path)!r}")
        return path
    known = paths.share() / _KNOWN
    if known.is_file():
        return known
    try:
        from chef_sim.urdf import sawyer_urdf

        found = sawyer_urdf()
    except (ImportError, FileNotFoundError):
        return None
    text = str(found)
    if not text.lstrip().startswith("<"):
        return Path(text)
    # A viewer reads a file; it is small, and read while this process lives.
    folder = Path(tempfile.mkdtemp(prefix="chef-view-"))
    (folder / "robot.urdf").write_text(text)
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
