# SPDX-License-Identifier: Apache-2.0
"""Fake nodes: small shell and Python programs in a fake install prefix."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chef_bringup.graph import NodeSpec  # noqa: E402

# Each writes its pid to $PIDS/<node name>, so that a test can look whether it is still there.
_HEAD = """#!/usr/bin/env python3
import os, signal, subprocess, sys, time
name = next(a.split(":=")[1] for a in sys.argv if a.startswith("__node:="))
def mark(pid, name=name):
    with open(os.path.join(os.environ["PIDS"], name + ".partial"), "w") as f:
        f.write(str(pid))
    os.rename(f.name, f.name[:-8])
"""
PROGRAMS = {
    "good": "try:\n    mark(os.getpid())\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('sealed')\n",
    # Ends well once the nodes named in WAIT_FOR are there, and DONE_S later.
    "done": (
        "mark(os.getpid())\nfor other in os.environ.get('WAIT_FOR', '').split():\n"
        "    while not os.path.exists(os.path.join(os.environ['PIDS'], other)):\n        time.sleep(0.02)\n"
        "time.sleep(float(os.environ.get('DONE_S', '0')))\n"
    ),
    # Dies once the arm is there, and those named in WAIT_FOR.
    "dies": (
        "mark(os.getpid())\nfor other in ['arm', *os.environ.get('WAIT_FOR', '').split()]:\n"
        "    while not os.path.exists(os.path.join(os.environ['PIDS'], other)):\n        time.sleep(0.02)\n"
        "print('no such device')\nsys.exit(3)\n"
    ),
    # Ends by itself when it is told of a loss.
    "told": "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))\nmark(os.getpid())\ntime.sleep(60)\n",
    "once": "print('once more')\nsys.exit(4)\n",
    "bad_end": "try:\n    mark(os.getpid())\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit(9)\n",
    # Brings the others to rest: takes its time, and looks whether the arm still runs.
    "manager": (
        "try:\n    mark(os.getpid())\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    time.sleep(0.4)\n"
        "    arm = int(open(os.path.join(os.environ['PIDS'], 'arm')).read())\n"
        "    print('arm runs' if os.path.exists(f'/proc/{arm}') else 'arm is gone')\n"
    ),
    "stubborn": "for s in (2, 15):\n    signal.signal(s, signal.SIG_IGN)\nmark(os.getpid())\nwhile True:\n    time.sleep(60)\n",
    "parent": (
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "mark(child.pid, 'grandchild')\nmark(os.getpid())\ntime.sleep(60)\n"
    ),
    "chatty": "mark(os.getpid())\nprint(os.environ['OMP_NUM_THREADS'], os.nice(0))\nprint(open(sys.argv[-1]).read())\n",
}


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, deadline_s: float = 10.0) -> bool:
    """Poll `condition` up to the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Fakes:
    """A fake install prefix and the pids of what was started from it."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.pids, self.logs = folder / "prefix", folder / "pids", folder / "logs"
        programs = self.prefix / "lib" / "fakes"
        for path in (programs, self.pids, self.logs):
            path.mkdir(parents=True)
        for name, text in PROGRAMS.items():
            (programs / name).write_text(_HEAD + text)
            (programs / name).chmod(0o755)
        self.env = {**os.environ, "AMENT_PREFIX_PATH": str(self.prefix), "PIDS": str(self.pids)}
        # The interpreter without the environment's hooks starts in a tenth of the time.
        self.env["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"

    def spec(self, name: str, executable: str, **kwargs) -> NodeSpec:
        """A node of a fake program."""
        return NodeSpec(name=name, package="fakes", executable=executable, namespace="cell_1", **kwargs)

    def pid(self, name: str) -> int:
        """The pid that a fake has written."""
        assert wait_until((self.pids / name).exists), f"{name} did not start"
        return int((self.pids / name).read_text())

    def started(self) -> list[int]:
        """All pids so far."""
        return [int(path.read_text()) for path in self.pids.iterdir() if path.suffix != ".partial"]


@pytest.fixture
def fakes(tmp_path):
    """Fake programs; fails when one of them is left running."""
    result = Fakes(tmp_path)
    yield result
    left = [pid for pid in result.started() if not wait_until(lambda pid=pid: not alive(pid), 2.0)]
    for pid in left:
        os.kill(pid, 9)
    assert not left, "processes were left behind"
