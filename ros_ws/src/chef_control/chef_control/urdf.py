# SPDX-License-Identifier: Apache-2.0
"""The range of an arm's joints from its URDF, for nodes that need no kinematics."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np


def joint_range(urdf: str | Path, joints: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper joint positions, rad, [n] each; ValueError for a URDF that does not give them."""
    try:
        root = ElementTree.parse(urdf).getroot()
    except (OSError, ElementTree.ParseError) as e:
        raise ValueError(f'{urdf}: not a URDF: {e}') from None
    limits = {j.get('name'): j.find('limit') for j in root.iter('joint')}
    values = []
    for joint in joints:
        if limits.get(joint) is None:
            raise ValueError(f'{urdf}: joint {joint!r} has no limit')
        try:
            lower, upper = (float(limits[joint].get(side, 'missing')) for side in ('lower', 'upper'))
        except ValueError:
            raise ValueError(f'{urdf}: the limit of joint {joint!r} is not two numbers') from None
        if not lower < upper:
            raise ValueError(f'{urdf}: the limit of joint {joint!r} is no range: {lower:g}..{upper:g}')
        values.append((lower, upper))
    return tuple(np.array(values).T)
