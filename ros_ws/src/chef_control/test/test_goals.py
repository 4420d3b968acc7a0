# SPDX-License-Identifier: Apache-2.0
"""Goals against real action servers: kept, refused, silent, and never ending."""

from __future__ import annotations

import time

import pytest
from ros_domain import domain

rclpy = pytest.importorskip('rclpy')
actions = pytest.importorskip('chef_msgs.action')

from rclpy.action import ActionServer, CancelResponse, GoalResponse  # noqa: E402

from chef_control.goals import Goals  # noqa: E402

DOMAIN = domain(2)
ResetScene = actions.ResetScene


class Peers:
    """A client node with its Goals, and a node for a server, spun together in one thread."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.client = rclpy.create_node('client', context=self.context)
        self.server = rclpy.create_node('server', context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        for node in (self.client, self.server):
            self.executor.add_node(node)
        self.results, self.errors = [], []
        self.goals = Goals(self.client, ResetScene, 'reset_scene', self.errors.append)

    def until(self, condition, deadline_s=10.0):
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, (self.results, self.errors)
            self.executor.spin_once(timeout_sec=0.02)
            self.goals.poll()

    def send(self, deadline_s=30.0, triplet=1):
        self.goals.send(ResetScene.Goal(triplet=triplet), self.results.append, deadline_s)


@pytest.fixture
def peers():
    p = Peers()
    yield p
    p.context.try_shutdown()


def finish(handle):
    handle.succeed()
    return ResetScene.Result(error_msg='done')


def test_a_goal_brings_its_result_and_the_next_may_follow(peers):
    ActionServer(peers.server, ResetScene, 'reset_scene', finish)
    peers.until(lambda: peers.goals.ready)
    for count in (1, 2):
        peers.send()
        peers.until(lambda count=count: len(peers.results) == count)
        assert not peers.goals.waiting
    assert [r.error_msg for r in peers.results] == ['done', 'done'] and not peers.errors


def test_a_refused_goal_is_told(peers):
    ActionServer(peers.server, ResetScene, 'reset_scene', finish,
                 goal_callback=lambda goal: GoalResponse.ACCEPT if goal.triplet == 1 else GoalResponse.REJECT)
    peers.until(lambda: peers.goals.ready)
    peers.send(triplet=9)
    peers.until(lambda: peers.errors)
    assert peers.errors == ['reset_scene was refused'] and not peers.goals.waiting


def test_a_server_that_does_not_answer_is_given_up(peers, monkeypatch):
    monkeypatch.setattr(Goals, 'ACCEPT_S', 0.3)
    peers.goals = Goals(peers.client, ResetScene, 'nobody', peers.errors.append)
    assert not peers.goals.ready
    peers.send()
    peers.until(lambda: peers.errors, 5.0)
    assert peers.errors == ['nobody did not answer in time'] and not peers.goals.waiting


def test_a_goal_that_does_not_end_is_cancelled(peers):
    cancelled, held = [], []
    ActionServer(peers.server, ResetScene, 'reset_scene', finish, handle_accepted_callback=held.append,
                 cancel_callback=lambda handle: cancelled.append(handle) or CancelResponse.ACCEPT)
    peers.until(lambda: peers.goals.ready)
    peers.send(deadline_s=0.3)
    peers.until(lambda: cancelled)
    assert peers.errors == ['reset_scene did not end in time'] and held and not peers.results


def test_an_acceptance_that_comes_too_late_ends_in_a_cancel(peers, monkeypatch):
    monkeypatch.setattr(Goals, 'ACCEPT_S', 0.2)
    cancelled = []

    def slow(goal):
        time.sleep(0.5)
        return GoalResponse.ACCEPT

    ActionServer(peers.server, ResetScene, 'reset_scene', finish, goal_callback=slow,
                 handle_accepted_callback=lambda handle: None,
                 cancel_callback=lambda handle: cancelled.append(handle) or CancelResponse.ACCEPT)
    peers.until(lambda: peers.goals.ready)
    peers.send()
    peers.until(lambda: cancelled)
    assert peers.errors == ['reset_scene did not answer in time'] and not peers.results
