# SPDX-License-Identifier: Apache-2.0
"""What is taken away of what killed processes left, and what is not."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from chef_bringup import shared_memory
from chef_bringup.domain import Domain

SEGMENT = "fastrtps_0123456789abcdef"


def make(folder, *names, age_s=120.0):
    for name in names:
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age_s,) * 2)


def test_ports_of_a_domain_are_removed_and_no_others(tmp_path):
    mine = ["fastrtps_port7650", "fastrtps_port7899_el", "sem.fastrtps_port7661_mutex"]
    others = ["fastrtps_port7900", "fastrtps_port7649", "fastrtps_portal", "port7650", SEGMENT, "fastrtps_port7650.txt"]
    make(tmp_path, *mine, *others)
    assert shared_memory.sweep_ports(range(7650, 7900), tmp_path) == 3
    assert sorted(os.listdir(tmp_path)) == sorted(others)
    assert shared_memory.sweep_ports(range(7650, 7900), tmp_path / "none") == 0


def test_a_segment_stays_while_its_owner_lives_or_may_not_have_locked_it_yet(tmp_path):
    make(tmp_path, SEGMENT, f"{SEGMENT}_el", "fastrtps_fedcba9876543210", "other_el")
    with open(tmp_path / f"{SEGMENT}_el") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert shared_memory.sweep_segments(tmp_path) == 0
    os.utime(tmp_path / f"{SEGMENT}_el")
    assert shared_memory.sweep_segments(tmp_path) == 0
    assert shared_memory.sweep_segments(tmp_path, young_s=-1.0) == 2
    assert sorted(os.listdir(tmp_path)) == ["fastrtps_fedcba9876543210", "other_el"]


def test_what_a_killed_node_leaves_is_taken_away_and_what_a_living_one_has_is_not():
    """By the names and the locks of the middleware itself."""
    pytest.importorskip("rclpy")
    domain, before = Domain(), shared_memory._names(shared_memory.FOLDER)
    ports = range(7400 + 250 * domain.number, 7650 + 250 * domain.number)
    code = "import rclpy, time; rclpy.init(); n = rclpy.create_node('n'); print('there', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "ROS_DOMAIN_ID": str(domain.number)}) as node:
        try:
            assert node.stdout.readline() == "there\n"
            segments = {n for n in shared_memory._names(shared_memory.FOLDER) - before
                        if shared_memory._SEGMENT.fullmatch(n)}
            assert segments
            for name in segments:
                os.utime(shared_memory.FOLDER / f"{name}_el", (time.time() - 120.0,) * 2)
            shared_memory.sweep_segments()
            assert segments <= shared_memory._names(shared_memory.FOLDER)
        finally:
            node.send_signal(signal.SIGKILL)
    assert shared_memory.sweep_segments() > 0
    assert not segments & shared_memory._names(shared_memory.FOLDER)
    assert shared_memory.sweep_ports(ports) > 0
    domain.release()
