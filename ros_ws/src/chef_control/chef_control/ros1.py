# SPDX-License-Identifier: Apache-2.0
"""Starting a process in ROS 1's own Python, beside ROS 2: they cannot be one process, nor share an environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import chef_control

# What ROS 2 and virtual environments set, and what would lead ROS 1's Python astray.
_DROPPED = ('PYTHON', 'LD_', 'AMENT_', 'CMAKE_PREFIX', 'COLCON_', 'ROS_', '_ROS_', 'RMW_', 'FASTRTPS', 'FASTDDS',
            'CYCLONEDDS', 'VIRTUAL_ENV')
# Isolated from the environment; this package comes last, so that no message package beside it hides one of ROS 1's.
_START = ('import importlib, sys; before, after, module = sys.argv[1:4]; '
          'sys.path[:0] = before.split(":") if before else []; sys.path.append(after); del sys.argv[1:4]; '
          'importlib.import_module(module).main(sys.argv[1:])')


def environment(master_uri: str, address: str = '') -> dict[str, str]:
    """The variables of a ROS 1 process; address: under which others reach this machine, '' to leave it to ROS."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
    env |= {'ROS_MASTER_URI': master_uri, 'ROS_PYTHON_VERSION': '3'}
    return env | ({'ROS_IP': address} if address else {})


def start(module: str, arguments: Sequence[str], *, python: str, python_path: Sequence[str] = (), master_uri: str,
          address: str = '', fds: Sequence[int] = ()) -> subprocess.Popen:
    """Runs `main` of a module of this package in another Python.

    Args:
      python: the interpreter. python_path: folders in which it looks first.
      fds: file descriptors that it inherits.

    Raises:
      OSError: the interpreter cannot be started.
    """
    package = str(Path(chef_control.__file__).resolve().parents[1])
    command = [python, '-I', '-c', _START, ':'.join(python_path), package, module, *arguments]
    return subprocess.Popen(command, env=environment(master_uri, address), pass_fds=fds, stdin=subprocess.DEVNULL,
                            start_new_session=True, cwd='/')
