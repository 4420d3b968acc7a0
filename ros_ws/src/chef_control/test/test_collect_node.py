# SPDX-License-Identifier: Apache-2.0
"""Failures of a collection: too many in a row end it; an operator's stop is waited out, for a while."""

from __future__ import annotations

import time

import pytest
from ros_domain import domain

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('chef_msgs.msg')

from chef_control.nodes.collect import CollectNode  # noqa: E402

DOMAIN = domain(1)


@pytest.fixture
def collect(tmp_path):
    rclpy.init(args=['--ros-args', '-p', f'run_dir:={tmp_path}', '-p', 'operator_deadline_s:=0.5'], domain_id=DOMAIN)
    node = CollectNode('collect')
    node._cell_active = True
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_failures_in_a_row_end_the_run(collect):
    for _ in range(CollectNode.TRIES - 1):
        collect._failed('reset: objects')
        assert collect.finished is None
    collect._failed('reset: objects')
    assert collect.finished == 1


def test_failures_while_the_graph_settles_are_tried_again(collect):
    collect._settled_at = time.monotonic() + 60.0
    for _ in range(CollectNode.TRIES):
        collect._failed('reset: stale_command:104 ms')
    assert collect.finished is None and collect._failures == 0 and collect._resume_at is not None


def test_what_an_operator_deactivated_is_waited_for(collect):
    for _ in range(CollectNode.TRIES + 1):
        collect._failed('episode: inactive')
    assert collect.finished is None and collect._failures == 0
    collect._cell_active = False
    collect._failed('reset_scene was refused')
    assert collect.finished is None and collect._failures == 0
    time.sleep(0.55)
    collect._next()
    assert collect.finished == 1


def test_an_operators_stop_is_no_failure_until_its_deadline(collect):
    for _ in range(CollectNode.TRIES + 1):
        collect._failed('reset: operator_stop')
        assert collect._resume_at is not None
    assert collect.finished is None and collect._failures == 0
    time.sleep(0.55)
    for _ in range(CollectNode.TRIES):
        collect._failed('reset: operator_stop')
    assert collect.finished == 1
