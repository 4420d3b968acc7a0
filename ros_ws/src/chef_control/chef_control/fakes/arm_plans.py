# SPDX-License-Identifier: Apache-2.0
"""How the arms of real cells are faked: which processes, and where the driver finds them. Imports little."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

from chef_control.fakes import intera_msgs
from chef_control.fakes.plan import Context, Fake
from chef_task.cell import CellConfig
from chef_task.spaces import JOINTS

PYTHON, MASTER = '/usr/bin/python3', '/usr/bin/rosmaster'


def words(cell: CellConfig) -> tuple[str, ...]:
    """The command line of a fake that tells it the cell's arm."""
    pinch = ('--pinch', json.dumps([cell.pinch.link, *cell.pinch.pose])) if cell.pinch else ()
    return ('--urdf', str(cell.urdf), '--joints', ','.join(cell.joints), *pinch)


def missing() -> str:
    """What a stand-in Sawyer lacks on this machine, in words, or ''."""
    if not Path(MASTER).exists():
        return f'{MASTER} (Debian: python3-rosmaster)'
    answer = subprocess.run([PYTHON, '-I', '-c', 'import rospy, sensor_msgs.msg, geometry_msgs.msg'],
                            capture_output=True, text=True, timeout=60)
    return '' if answer.returncode == 0 else answer.stderr.strip().splitlines()[-1]


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def sawyer(entry: dict, context: Context) -> Fake:
    """How the cell's Sawyer is faked: by a process of its own, whose arm is the simulated world's."""
    if lacking := missing():
        raise ValueError(f'devices.arm: no stand-in Sawyer without {lacking}')
    folder, port = context.folder / 'sawyer', free_port()
    intera_msgs.write(folder)
    device = {k: v for k, v in entry.items() if k != 'tcp_in_endpoint'}
    device |= {'master_uri': f'http://127.0.0.1:{port}', 'address': '127.0.0.1', 'python': PYTHON,
               'python_path': [str(folder)], 'limb': 'right', 'start_deadline_s': 60.0}   # as it starts beside it
    return Fake(device, ('chef_control.fakes.sawyer', *words(context.cell), '--folder', str(folder),
                         '--world', context.world_socket, '--port', str(port)))


def ros2_control(entry: dict, context: Context) -> Fake:
    """How the cell's arm is faked: a Sawyer's body is the simulated world's, that of another arm its own."""
    cell = context.cell
    command = ('chef_control.fakes.ros2_control', *words(cell),
               '--controller', str(entry.get('controller', '/velocity_controller')),
               '--joint-states', str(entry.get('joint_states', '/joint_states')))
    if cell.joints == JOINTS:
        command += ('--world', context.world_socket)
    else:
        command += ('--home', ','.join(map(str, cell.home_rad)))
    return Fake({**entry, 'domain_id': -1, 'start_deadline_s': 60.0}, command)
