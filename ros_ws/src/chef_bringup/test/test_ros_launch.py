# SPDX-License-Identifier: Apache-2.0
"""What is ours in the launch description; `launch` itself is stood in for, as it is not on PyPI."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import pytest

from chef_bringup.graph import NodeSpec


@pytest.fixture
def ros_launch(monkeypatch):
    names = ("launch", "launch.actions", "launch.event_handlers", "launch_ros", "launch_ros.actions",
             "launch_ros.parameter_descriptions")  # fmt: skip
    for name in names:
        monkeypatch.setitem(sys.modules, name, mock.MagicMock())
    monkeypatch.delitem(sys.modules, "chef_bringup.ros_launch", raising=False)
    import chef_bringup.ros_launch as module

    yield module
    sys.modules.pop("chef_bringup.ros_launch", None)


def test_the_gate_hears_of_a_loss_before_the_launch_fails(ros_launch, monkeypatch):
    process = subprocess.Popen(["sleep", "60"])  # which SIGUSR1 ends
    nodes = [
        SimpleNamespace(process_details={"pid": process.pid}, return_code=None),
        SimpleNamespace(process_details=None, return_code=None),
        SimpleNamespace(process_details={"pid": os.getpid()}, return_code=0),
    ]
    made = iter([*nodes, SimpleNamespace(process_details={"pid": os.getpid()}, return_code=None)])
    monkeypatch.setattr(ros_launch, "Node", lambda **kwargs: next(made))
    specs = [NodeSpec(name, "p", "e", "cell_1", told_of_loss=True) for name in ("gate", "not_begun", "over")]
    ros_launch.graph_actions([*specs, NodeSpec("arm", "p", "e", "cell_1")])
    on_exit = ros_launch.OnProcessExit.call_args.kwargs["on_exit"]
    try:
        with pytest.raises(ros_launch.GraphFailed, match="required node 'arm' ended with 1"):
            on_exit(SimpleNamespace(returncode=1), SimpleNamespace(is_shutdown=False))
        assert process.wait(10) == -signal.SIGUSR1
    finally:
        process.kill()
        process.wait()
