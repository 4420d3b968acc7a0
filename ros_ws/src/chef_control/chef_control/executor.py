# SPDX-License-Identifier: Apache-2.0
"""A single-threaded executor for nodes that take hundreds of messages a second.

rclpy's own makes a wait set, a timer and a coroutine for every callback, which costs more than the
callbacks (docs/adr/0004-executor.md has the figures). This one keeps its wait set, takes all that is there
of a ready subscription, and calls the callback directly. Services, clients and actions are rare: they are
looked at every 20 ms and handed to rclpy's executor.

A node's `quiet` subscriptions do not wake it: they are emptied before anything else is done, and every
20 ms. Most samples are only needed when something else asks for them, and waking up for each of them cost
more than all the rest. While the node is `hungry` it wakes for every message.

It uses rclpy's WaitSet, which is not public but did not change within Jazzy.
"""

from __future__ import annotations

import time

from rclpy.action import ActionClient, ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.utilities import get_default_context

_RARE_S = 0.02           # between looks at services, clients and actions
_HOUSEKEEPING_S = 1.0    # between looks at QoS events and whatever else is in no hurry


class LeanExecutor:
    """Spins one CellNode, from one thread; callbacks are plain functions of the message."""

    def __init__(self, node):
        self._node = node
        self._context = get_default_context()
        self._rest = SingleThreadedExecutor()
        self._rest.add_node(node)
        self._often: tuple = ([], [])
        self._quiet: list = []
        self._loud: list = []
        self._often_set = None
        self._rare: tuple = ([], [], [])
        self._rare_set = None
        self._next_rare = self._next_housekeeping = 0.0

    def _make_sets(self) -> None:
        """Makes the wait sets anew if the node's entities have changed."""
        node = self._node
        often = (list(node.subscriptions), list(node.timers))
        if self._often_set is None or often != self._often:
            self._often = often
            self._quiet = [s for s in often[0] if s in self._node.quiet]
            self._loud = [s for s in often[0] if s not in self._node.quiet]
            self._often_set = _rclpy.WaitSet(len(often[0]), 0, len(often[1]), 0, 0, 0, self._context.handle)
        actions = [w for w in node.waitables if isinstance(w, (ActionClient, ActionServer))]
        rare = (list(node.clients), list(node.services), actions)
        if self._rare_set is None or rare != self._rare:
            self._rare = rare
            counts = [0, 0, 0, len(rare[0]), len(rare[1]), 0]
            for action in actions:
                n = action.get_num_entities()
                more = (n.num_subscriptions, n.num_guard_conditions, n.num_timers, n.num_clients,
                        n.num_services, n.num_events)
                counts = [a + b for a, b in zip(counts, more)]
            self._rare_set = _rclpy.WaitSet(*counts, self._context.handle)

    def spin_once(self, timeout_sec: float) -> None:
        """Waits, `timeout_sec` at most, and does all that is then ready."""
        now = time.monotonic()
        if now >= self._next_rare:
            self._make_sets()
            self._next_rare = now + _RARE_S
            if now >= self._next_housekeeping or self._rare_ready() or self._has_tasks():
                self._next_housekeeping = now + _HOUSEKEEPING_S
                self._rest.spin_once(timeout_sec=0.0)
                for _ in range(20):     # what a service or an action sets off runs as tasks of the executor
                    if not self._has_tasks():
                        break
                    self._rest.spin_once(timeout_sec=0.0)
                self._next_rare = now   # more may be there
                self._make_sets()       # of what a service made or destroyed
        self._spin_often(max(0.0, min(timeout_sec, self._next_rare - now)))

    def _spin_often(self, timeout_sec: float) -> None:
        subs, timers = self._often
        waited = subs if self._node.hungry() else self._loud
        ready = ready_timers = ()
        if waited or timers:
            wait_set = self._often_set
            wait_set.clear_entities()
            for s in waited:
                wait_set.add_subscription(s.handle)
            for t in timers:
                wait_set.add_timer(t.handle)
            wait_set.wait(int(timeout_sec * 1e9))
            ready = wait_set.get_ready_entities('subscription')
            ready_timers = wait_set.get_ready_entities('timer')
        else:   # rcl refuses to wait for nothing
            time.sleep(timeout_sec)
        for s in self._quiet:
            self._drain(s)
        if ready:
            for s in self._loud:
                if s.handle.pointer in ready:
                    self._drain(s)
        if ready_timers:
            for t in timers:
                if t.handle.pointer in ready_timers and t.handle.is_timer_ready():
                    t.handle.call_timer()
                    t.callback()

    def _rare_ready(self) -> bool:
        clients, services, actions = self._rare
        if not any(self._rare):
            return False
        wait_set = self._rare_set
        wait_set.clear_entities()
        for c in clients:
            wait_set.add_client(c.handle)
        for s in services:
            wait_set.add_service(s.handle)
        for a in actions:
            a.add_to_wait_set(wait_set)
        wait_set.wait(0)
        return bool(wait_set.get_ready_entities('client') or wait_set.get_ready_entities('service')) \
            or any(a.is_ready(wait_set) for a in actions)

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
