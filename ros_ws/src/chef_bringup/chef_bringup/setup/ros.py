# SPDX-License-Identifier: Apache-2.0
"""Which ROS 2 this is: one that the user sourced, or the wheels."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def sourced_prefix(env: Mapping[str, str] | None = None) -> Path | None:
    """The prefix of a real ROS 2 that is sourced (it has rclpy and ament_cmake), or None.

    An environment of wheels that `./chef` made itself has both too; its pyvenv.cfg gives it away.
    """
    env = os.environ if env is None else env
    for entry in env.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        prefix = Path(entry)
        index = prefix / "share" / "ament_index" / "resource_index" / "packages"
        if not entry or (prefix / "pyvenv.cfg").exists():
            continue
        if (index / "rclpy").exists() and (index / "ament_cmake").exists():
            return prefix
    return None


def python_mismatch(prefix: Path) -> str | None:
    """The Python that the ROS 2 in `prefix` was built for, where that is not this one."""
    built = {path.parent.parent.name for path in prefix.glob("lib/python3.*/site-packages/rclpy")}
    own = f"python3.{sys.version_info.minor}"
    return None if not built or own in built else sorted(built)[0]


def identity() -> str:
    """Names the ROS 2 in use, for the hash of inputs."""
    prefix = sourced_prefix()
    return "wheels" if prefix is None else f"{os.environ.get('ROS_DISTRO', 'unknown')} {prefix}"


def has_launch(env: Mapping[str, str] | None = None) -> bool:
    """Whether a real ROS 2 with `ros2 launch` is sourced."""
    env = os.environ if env is None else env
    prefixes = [Path(entry) for entry in env.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    index = Path("share") / "ament_index" / "resource_index" / "packages"
    return all(any((prefix / index / name).exists() for prefix in prefixes) for name in ("ros2launch", "launch_ros"))
