# SPDX-License-Identifier: Apache-2.0
"""A single-threaded executor for nodes that take hundreds of messages a second.

rclpy's own makes a wait set, a timer and a coroutine for every callback, which costs more than the
callbacks (docs/adr/0004-executor.md has the figures). This one keeps its wait set, takes all that is there
of a ready subscription, and calls the callback directly. Services, clients and actions are rare: they are
waited for in the same set and handed to rclpy's executor.

It uses rclpy's WaitSet, which is not public but did not change within Jazzy.
"""

from __future__ import annotations

import time

from rclpy.action import ActionClient, ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.utilities import get_default_context

_HOUSEKEEPING_S = 1.0    # for QoS events and whatever else is in no hurry


class LeanExecutor:
    """Spins one node, from one thread; callbacks are plain functions of the message."""

    def __init__(self, node: Node):
        self._node = node
        self._context = get_default_context()
        self._rest = SingleThreadedExecutor()
        self._rest.add_node(node)
        self._entities: tuple = ()
        self._wait_set = None
        self._housekeeping = 0.0

    def _refresh(self) -> None:
        """Makes the wait set anew if the node's entities have changed."""
        node = self._node
        subs, timers = list(node.subscriptions), list(node.timers)
        clients, services = list(node.clients), list(node.services)
        actions = [w for w in node.waitables if isinstance(w, (ActionClient, ActionServer))]
        entities = (subs, timers, clients, services, actions)
        if self._wait_set is not None and entities == self._entities:
            return
        counts = [len(subs), 0, len(timers), len(clients), len(services), 0]
        for action in actions:
            n = action.get_num_entities()
            more = (n.num_subscriptions, n.num_guard_conditions, n.num_timers, n.num_clients, n.num_services,
                    n.num_events)
            counts = [a + b for a, b in zip(counts, more)]
        self._entities = entities
        self._wait_set = _rclpy.WaitSet(*counts, self._context.handle)

    def spin_once(self, timeout_sec: float) -> None:
        """Waits, `timeout_sec` at most, and does all that is then ready."""
        self._refresh()
        wait_set = self._wait_set
        subs, timers, clients, services, actions = self._entities
        wait_set.clear_entities()
        for s in subs:
            wait_set.add_subscription(s.handle)
        for t in timers:
            wait_set.add_timer(t.handle)
        for c in clients:
            wait_set.add_client(c.handle)
        for s in services:
            wait_set.add_service(s.handle)
        for a in actions:
            a.add_to_wait_set(wait_set)
        wait_set.wait(int(timeout_sec * 1e9))
        ready_subs = wait_set.get_ready_entities('subscription')
        ready_timers = wait_set.get_ready_entities('timer')
        others = bool(wait_set.get_ready_entities('client') or wait_set.get_ready_entities('service')) \
            or any(a.is_ready(wait_set) for a in actions)
        if ready_subs:
            for s in subs:
                if s.handle.pointer in ready_subs:
                    self._drain(s)
        if ready_timers:
            for t in timers:
                if t.handle.pointer in ready_timers and t.handle.is_timer_ready():
                    t.handle.call_timer()
                    t.callback()
        now = time.monotonic()
        if others or self._has_tasks() or now - self._housekeeping > _HOUSEKEEPING_S:
            self._housekeeping = now
            self._rest.spin_once(timeout_sec=0.0)
            for _ in range(20):     # what a service or an action sets off runs as tasks of the executor
                if not self._has_tasks():
                    break
                self._rest.spin_once(timeout_sec=0.0)

    def _has_tasks(self) -> bool:
        return any(not task.done() for task, *_ in self._rest._tasks)

    @staticmethod
    def _drain(subscription) -> None:
        # As many as its history holds: what arrives meanwhile waits for the next round.
        for _ in range(max(1, min(subscription.qos_profile.depth, 100))):
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                return
            subscription.callback(taken[0])
