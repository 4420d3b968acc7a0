# SPDX-License-Identifier: Apache-2.0
"""The Python environment; without a sourced ROS 2 it is also the ROS 2 that the workspace builds on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from chef_bringup.setup import ros
from chef_bringup.setup.inputs import environment_inputs, read_stamp, write_stamp
from chef_bringup.setup.progress import SetupError, run, say

# Include folders of the machine on which the wheels were built, in the CMake targets that they export.
_PYTHON_INCLUDE = re.compile(r"/opt/[^;\"\s]*/include/python3\.\d+")
_NUMPY_INCLUDE = re.compile(r"/[^;\"\s<>]*/numpy/(?:_core|core)/include")
# ament_package-style hook, in POSIX sh so that one text serves bash, zsh and sh.
_UNDERLAY = """\
# SPDX-License-Identifier: Apache-2.0
# Written by ./chef: makes the wheels of this environment the ROS 2 to build on and to run with.
_chef_prepend() {{
  eval "_chef_old=\\${{$1:-}}"
  case ":$_chef_old:" in
    *":$2:"*) ;;
    *) eval "export $1=\\"\\$2\\${{_chef_old:+:\\$_chef_old}}\\"" ;;
  esac
}}
{prepends}
unset -f _chef_prepend
unset _chef_old
export VIRTUAL_ENV="{root}"
export ROS_VERSION=2 ROS_PYTHON_VERSION=3 ROS_DISTRO=jazzy
# Without it each Python re-executes itself once to set LD_LIBRARY_PATH, which is set above.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
"""


def folder(root: Path) -> Path:
    """The environment's folder; one for the wheels and one for each sourced ROS 2."""
    if ros.sourced_prefix() is None:
        return root / ".venv"
    return root / f".venv-{os.environ.get('ROS_DISTRO', 'ros')}"


def python(root: Path) -> Path:
    """The environment's interpreter."""
    return folder(root) / "bin" / "python3"


def up_to_date(root: Path) -> bool:
    """Whether a finished environment of the present inputs is there."""
    stamp = read_stamp(folder(root) / "chef-stamp.json")
    return stamp == environment_inputs(root) and python(root).exists()


def create(root: Path) -> None:
    """Make the environment, or go on with a half-made one.

    Raises:
        SetupError: pip or venv failed.
    """
    venv, sourced = folder(root), ros.sourced_prefix()
    if sourced and (other := ros.python_mismatch(sourced)):
        raise SetupError(f"the ROS 2 in {sourced} is for {other}; run ./chef with that, as {other} ./chef ...")
    make(venv, ["--system-site-packages"] if sourced else [])
    requirements = root / "requirements"
    files = [requirements / "python.txt"] + ([] if sourced else [requirements / "ros.txt"])
    say("installing Python packages; the first time takes some minutes")
    install(venv, [word for file in files for word in ("-r", str(file))] + _constraints(venv))
    install(venv, ["--no-deps", "-r", str(requirements / "assets.txt")])
    if not sourced:
        _fix_cmake_paths(venv)
        _write_underlay(venv)
    write_stamp(venv / "chef-stamp.json", environment_inputs(root))


def make(venv: Path, options: list[str]) -> None:
    """See that an environment of this Python is there, without a stamp; `options` are words for `python3 -m venv`.

    Raises:
        SetupError: venv failed.
    """
    (venv / "chef-stamp.json").unlink(missing_ok=True)
    if venv.exists() and not _usable(venv):
        say(f"removing {venv.name}: of another Python, or half made")
        shutil.rmtree(venv)
    if not venv.exists():
        say(f"making the Python environment {venv.name}")
        run([sys.executable, "-m", "venv", *options, str(venv)], what="python3 -m venv", timeout_s=300)


def install(venv: Path, arguments: list[str]) -> None:
    """`pip install` with these words in an environment.

    Raises:
        SetupError: pip failed.
    """
    command = [str(venv / "bin" / "python3"), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    env = {**os.environ, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    run(command, what="installing Python packages", timeout_s=3600, env=env)


def variables(root: Path) -> dict[str, str]:
    """The variables with the environment (and the underlay) in them."""
    venv = folder(root)
    env = dict(os.environ)
    if (venv / "setup.bash").exists():
        return source(venv / "setup.bash", env)
    env["PATH"] = f"{venv / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    env["VIRTUAL_ENV"] = str(venv)
    # The sourced ROS 2's Python finds these only by path: its tools start the system's interpreter.
    site = next(iter(sorted((venv / "lib").glob("python3*/site-packages"))), None)
    if site is not None:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), env.get("PYTHONPATH", "")]))
    return env


def source(script: Path, env: dict[str, str]) -> dict[str, str]:
    """The variables after sourcing `script` in bash.

    Raises:
        SetupError: the script failed.
    """
    marker = b"\0chef-environment\0"
    shell = 'source "$1" >&2 && printf "\\0chef-environment\\0" && env -0'
    answer = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", shell, "chef", str(script)],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    if answer.returncode != 0 or marker not in answer.stdout:
        raise SetupError(f"cannot source {script}; remove its folder and call again")
    pairs = answer.stdout.split(marker, 1)[1].decode(errors="surrogateescape").split("\0")
    result = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    for name in ("_", "SHLVL", "PWD", "OLDPWD"):
        result.pop(name, None)
        if name in env:
            result[name] = env[name]
    return result


def _usable(venv: Path) -> bool:
    """Whether it runs, is of this Python and was made at this place (its scripts hold the path)."""
    try:
        check = [venv / "bin" / "python3", "-c", "import pip, sys; print(sys.version)"]
        version = subprocess.run(check, capture_output=True, text=True, timeout=60).stdout.strip()
        return version == sys.version and str(venv) in (venv / "bin" / "pip").read_text().split("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        return False


def _constraints(venv: Path) -> list[str]:
    """A sourced ROS 2 that was built with NumPy 1 does not load under NumPy 2."""
    if ros.sourced_prefix() is None:
        return []
    answer = subprocess.run(
        [sys.executable, "-c", "import numpy; print(numpy.__version__)"], capture_output=True, text=True, timeout=60
    )
    if not answer.stdout.startswith("1."):
        return []
    path = venv / "constraints.txt"
    path.write_text("numpy<2\n")
    return ["-c", str(path)]


def _fix_cmake_paths(venv: Path) -> None:
    """Replace the wheel builder's include folders by this machine's; safe to repeat."""
    code = "import numpy, sysconfig; print(sysconfig.get_path('include')); print(numpy.get_include())"
    answer = subprocess.run(
        [venv / "bin" / "python3", "-c", code], capture_output=True, text=True, timeout=60,
        env={**os.environ, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"},
    )  # fmt: skip
    if answer.returncode != 0:
        raise SetupError(f"the new environment does not work: {answer.stderr.strip()[-300:]}")
    python_include, numpy_include = answer.stdout.split("\n")[:2]
    for path in (venv / "share").rglob("*.cmake"):
        old = path.read_text(errors="surrogateescape")
        new = _PYTHON_INCLUDE.sub(lambda _: python_include, old)
        new = _NUMPY_INCLUDE.sub(lambda _: numpy_include, new)
        if new != old:
            path.write_text(new, errors="surrogateescape")


def _write_underlay(venv: Path) -> None:
    """The setup files that colcon chains to."""
    libraries = [str(venv / "lib")] + [str(path) for path in sorted((venv / "lib").glob("python3*/site-packages/ros_*.libs"))]
    prepends = [("AMENT_PREFIX_PATH", venv), ("CMAKE_PREFIX_PATH", venv), ("PATH", venv / "bin")]
    prepends += [("LD_LIBRARY_PATH", library) for library in reversed(libraries)]
    text = _UNDERLAY.format(prepends="\n".join(f'_chef_prepend {name} "{path}"' for name, path in prepends), root=venv)
    for name in ("local_setup.sh", "local_setup.bash", "local_setup.zsh", "setup.sh", "setup.bash", "setup.zsh"):
        (venv / name).write_text(text)
