# SPDX-License-Identifier: Apache-2.0
"""Building the workspace with colcon."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from chef_bringup.setup import environment
from chef_bringup.setup.inputs import read_stamp, workspace_inputs, write_stamp
from chef_bringup.setup.progress import SetupError, run, say


def folder(root: Path) -> Path:
    """The colcon workspace."""
    return root / "ros_ws"


def _stamps(root: Path) -> tuple[Path, Path]:
    """The finished build's stamp, and the mark that a build of some environment was begun."""
    return folder(root) / "install" / "chef-stamp.json", folder(root) / "build" / "chef-environment.json"


def up_to_date(root: Path) -> bool:
    """Whether the build in place is that of the present inputs."""
    return read_stamp(_stamps(root)[0]) == workspace_inputs(root) and (folder(root) / "install" / "setup.bash").exists()


def build(root: Path, env: dict[str, str]) -> None:
    """Build all packages.

    Raises:
        SetupError: a package does not build.
    """
    workspace, (stamp, begun) = folder(root), _stamps(root)
    inputs, environment_inputs = workspace_inputs(root), read_stamp(environment.folder(root) / "chef-stamp.json")
    stamp.unlink(missing_ok=True)
    if read_stamp(begun) != environment_inputs or not environment_inputs:
        # CMake's caches remember another environment's paths; an install space links to it.
        for name in ("build", "install", "log"):
            shutil.rmtree(workspace / name, ignore_errors=True)
        write_stamp(begun, environment_inputs or "")
    _forget_removed_packages(workspace)
    say("building the workspace with colcon")
    interpreter = environment.python(root)
    command = [str(interpreter), "-m", "colcon", "build", "--symlink-install", "--metas", str(root / "colcon.meta")]
    command += ["--event-handlers", "console_cohesion-", "console_stderr+", "desktop_notification-"]
    command += ["--cmake-args", f"-DPython3_EXECUTABLE={interpreter}"]
    run(command, what="colcon build", timeout_s=3600, env=env, cwd=workspace)
    # As pip does, also where PYTHONDONTWRITEBYTECODE is set: else each of a graph's processes would do it at every start.
    sources = [str(path / path.name) for path in sorted((workspace / "src").glob("chef_*")) if (path / path.name).is_dir()]
    with contextlib.suppress(SetupError):  # a file in the midst of a change: it has said which
        run([str(interpreter), "-m", "compileall", "-q", *sources], what="compileall", timeout_s=600, env=env)
    write_stamp(stamp, inputs)


def variables(root: Path, env: dict[str, str]) -> dict[str, str]:
    """The variables with the built workspace in them."""
    script = folder(root) / "install" / "setup.bash"
    if not script.exists():
        raise SetupError(f"{script} is missing; remove ros_ws/install and call again")
    return environment.source(script, env)


def packages(root: Path) -> list[str]:
    """Names of the packages in the source space."""
    return sorted(path.parent.name for path in (folder(root) / "src").glob("*/package.xml"))


def _forget_removed_packages(workspace: Path) -> None:
    """A package that left the source space must not go on being sourced."""
    known = {path.parent.name for path in (workspace / "src").glob("*/package.xml")}
    for space in ("build", "install"):
        for path in (workspace / space).glob("chef_*"):
            if path.is_dir() and path.name not in known:
                shutil.rmtree(path, ignore_errors=True)
