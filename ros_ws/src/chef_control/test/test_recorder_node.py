# SPDX-License-Identifier: Apache-2.0
"""The recorder's node as a process: it says in one line why it cannot record into a folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ros_domain import domain

from chef_task.bag.disk import FolderLock

pytest.importorskip('rclpy')


def start(run_dir) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-c', 'from chef_control.nodes.recorder import main; main()', '--ros-args',
         '-p', f'run_dir:={run_dir}', '-p', 'observation:=state'],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain(3)), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'},
        capture_output=True, text=True, timeout=60)


def test_a_folder_into_which_another_records_is_refused(tmp_path):
    lock = FolderLock(tmp_path / 'episodes')
    result = start(tmp_path)
    lock.release()
    assert result.returncode == 2
    assert result.stderr == f'recorder: {tmp_path}/episodes: another recorder (process {os.getpid()}) records into it\n'


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'episodes').write_text('')
    result = start(tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f'recorder: {tmp_path}/episodes: cannot be ') and result.stderr.count('\n') == 1
