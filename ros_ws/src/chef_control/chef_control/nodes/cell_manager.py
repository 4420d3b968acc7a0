# SPDX-License-Identifier: Apache-2.0
"""Executable `cell_manager`: brings the moving nodes up and down, and logs the cell's health."""

from __future__ import annotations

import time
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetState
from std_msgs.msg import Bool

from chef_control.cell_health import CellHealth
from chef_control.cell_lifecycle import ACTIVATE, ACTIVE, CONFIGURE, DEACTIVATE, GET_STATE, CellLifecycle, Phase
from chef_control.health import OK, Report
from chef_control.node import LOCKSTEP, CellNode, ConfigError, Param, run
from chef_task.qos import profile

TRANSITIONS = {CONFIGURE: Transition.TRANSITION_CONFIGURE, ACTIVATE: Transition.TRANSITION_ACTIVATE,
               DEACTIVATE: Transition.TRANSITION_DEACTIVATE}


class CellManagerNode(CellNode):
    """Shell over CellLifecycle and CellHealth. Ends the graph when a node does not come up.

    When somebody else deactivates one of the nodes, `cell_active` tells the safety gate to hold until all are
    active again.
    """

    PARAMS = (LOCKSTEP,
              Param('managed', 'gripper arm safety controller reset episode',
                    'lifecycle nodes in the order of their activation, separated by blanks'),
              Param('configure_deadline_s', 60.0, 's, from the start until all are configured'),
              Param('activate_deadline_s', 5.0, 's, for each node'),
              Param('deactivate_deadline_s', 0.5, 's, for each node'),
              Param('health_period_s', 10.0, 's between two lines on the cell\'s health'))

    SETTLE_S = 2.0      # once all are active, until their health is judged

    def __init__(self, name: str):
        super().__init__(name)
        p = self.params
        nodes = tuple(p['managed'].split())
        if not nodes:
            raise ConfigError('parameter managed names no node')
        self._services_of = {n: (self.create_client(GetState, f'{n}/get_state'),
                             self.create_client(ChangeState, f'{n}/change_state')) for n in nodes}
        self._inactive: set[str] = set()    # of those that were brought up
        for n in nodes:
            self.create_subscription(TransitionEvent, f'{n}/transition_event', partial(self._on_transition, n),
                                     profile('stream'))
        self._lifecycle = CellLifecycle(nodes, self._ask, p['configure_deadline_s'], p['activate_deadline_s'],
                                        p['deactivate_deadline_s'])
        self._active = self.create_publisher(Bool, 'cell_active', profile('state'))
        self._phase = self._lifecycle.phase     # that was acted upon
        self._health = CellHealth()
        self._level = OK
        self._logged_at = self._up_at = time.monotonic()
        self._ending = False
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, profile('diagnostics'))
        self._poller = self.every(0.02, self._poll)
        self.every(1.0, self._log_health)
        self._tell(False)
        self._lifecycle.start(time.monotonic())

    # ---- lifecycle ----------------------------------------------------------------------------

    def _ask(self, node: str, what: str) -> bool:
        get_state, change_state = self._services_of[node]
        client = get_state if what == GET_STATE else change_state
        if not client.service_is_ready():
            return False
        if what == GET_STATE:
            client.call_async(GetState.Request()).add_done_callback(
                lambda future: self._lifecycle.on_state(node, future.result().current_state.label))
        else:
            request = ChangeState.Request(transition=Transition(id=TRANSITIONS[what]))
            client.call_async(request).add_done_callback(
                lambda future: self._lifecycle.on_changed(node, what, future.result().success))
        return True

    def _poll(self) -> None:
        self._lifecycle.poll(time.monotonic())
        if self._lifecycle.phase is self._phase:    # an answer changes it, too, between two polls
            return
        self._phase = self._lifecycle.phase
        if self._lifecycle.phase is Phase.UP:
            self._poller.cancel()
            self._up_at = time.monotonic()
            self._tell(True)
            self.get_logger().info(f'active: {", ".join(self._services_of)}')
        elif self._lifecycle.phase is Phase.FAILED:
            self.get_logger().error(f'the cell does not come up: {self._lifecycle.error}')
            self.finished = 1

    def _on_transition(self, node: str, m: TransitionEvent) -> None:
        before, state = bool(self._inactive), m.goal_state.label
        if self._lifecycle.phase is not Phase.UP or m.goal_state.id > State.PRIMARY_STATE_FINALIZED:
            return      # on its way, or of a state that it only passes
        self._lifecycle.on_state(node, state)
        if state == ACTIVE:
            self._inactive.discard(node)
        else:
            self._inactive.add(node)
        if bool(self._inactive) is not before:
            self._tell(before)
            self.get_logger().warning(f'the cell holds: {node} is {state}' if self._inactive else
                                      'all nodes are active again')

    def _tell(self, active: bool) -> None:
        self._active.publish(Bool(data=active))

    def stop(self) -> bool:
        """Deactivates all that is active; a node that is gone is not waited for longer than its deadline."""
        if not self._ending:
            self._ending = True
            self._lifecycle.finish(time.monotonic())
        self._lifecycle.poll(time.monotonic())
        if self._lifecycle.phase is not Phase.DOWN:
            return False
        self._tell(False)
        if self._lifecycle.late:
            self.get_logger().warning(f'not seen to deactivate: {", ".join(self._lifecycle.late)}')
        return True

    # ---- health -------------------------------------------------------------------------------

    def _on_diagnostics(self, m: DiagnosticArray) -> None:
        cell = self.get_namespace().strip('/')
        for status in m.status:
            if status.hardware_id == cell:
                values = {v.key: v.value for v in status.values}
                self._health.update(status.name.removeprefix(f'{cell}/'), status.level[0], status.message, values,
                                    time.monotonic())

    def _log_health(self) -> None:
        now = time.monotonic()
        # what was said until then is of nodes that were not active yet
        if self._lifecycle.phase is not Phase.UP or now - self._up_at < self.SETTLE_S:
            return
        level, line = self._health.line(now)
        if level == self._level and now - self._logged_at < self.params['health_period_s']:
            return
        self._level, self._logged_at = level, now
        if level == OK:     # two lines: rclpy ties a severity to the line that logs
            self.get_logger().info(line)
        else:
            self.get_logger().warning(line)

    def diagnose(self, report: Report) -> None:
        report.values['phase'] = self._lifecycle.phase.name.lower()


def main() -> None:
    run(CellManagerNode, 'cell_manager', stop_deadline_s=4.0)
