# SPDX-License-Identifier: Apache-2.0
"""Nodes that can move something: ROS 2 lifecycle nodes, see docs/adr/0005-lifecycle.md.

`configure` loads and makes topics and services, `activate` allows motion, `deactivate` stops it. Sensors are
published from `configure` on, as observing is always allowed.
"""

from __future__ import annotations

import gc
import traceback

from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient, ActionServer
from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn

from chef_control.health import Report
from chef_control.node import CellNode, ConfigError

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class MovingNode(LifecycleNodeMixin, CellNode):
    """A node of the cell that moves nothing unless it is active.

    Subclasses override `configure`, `activate`, `halt`, `settled` and `release`. What they command goes through
    lifecycle publishers (`create_lifecycle_publisher`), which are silent unless the node is active, or else
    they look at `active`.
    """

    def __init__(self, name: str):
        CellNode.__init__(self, name)
        LifecycleNodeMixin.__init__(self)
        self.active = False
        self._base: set | None = None   # what exists besides what `configure` made; None: not configured
        self._answer = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    # ---- for subclasses -----------------------------------------------------------------------

    def configure(self) -> None:
        """Loads, connects, makes topics and services. ConfigError or ValueError: it cannot, with one line why."""

    def activate(self) -> None:
        """Motion is allowed when this returns. ConfigError: not now, with one line why."""

    def halt(self) -> None:
        """Stops what moves and publishes a stop. Called on deactivation and every other way out of it."""

    def settled(self) -> bool:
        """Whether what `halt` set off is complete."""
        return True

    def release(self) -> None:
        """Lets go of what is not a ROS entity: devices, threads."""

    # ---- transitions --------------------------------------------------------------------------

    @property
    def configured(self) -> bool:
        return self._base is not None

    @property
    def state(self) -> str:
        """The lifecycle's state: unconfigured, inactive, active, finalized, or a transition's."""
        return self._state_machine.current_state[1]

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._base = set(self._entities())
        try:
            self.configure()
        except Exception as e:
            self._say(e)
            self._clear()
            return FAILURE
        # A collection over all that was loaded takes tens of ms, as long as a tick.
        gc.collect()
        gc.freeze()
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self.activate()
        except Exception as e:
            self._say(e)
            return FAILURE
        self.active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self.settled():
            self.get_logger().error('not cleaned up: something is still being completed')
            return FAILURE
        try:
            self._clear()
        except Exception as e:
            self._say(e)
            raise
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        self._clear()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        self._clear()
        return SUCCESS

    def _halt(self) -> None:
        """Stops, and whatever comes of that, is not active any more."""
        if not self.active:
            return
        try:
            self.halt()
        except Exception as e:
            self._say(e)
            raise
        finally:
            self.active = False
            super().on_deactivate(None)     # silences the lifecycle publishers

    def stop(self) -> bool:
        """The end of the process, by whatever way."""
        self._halt()
        if not self.configured:
            return True
        if not self.settled():
            return False
        self.release()
        self._base = None
        return True

    def diagnose(self, report: Report) -> None:
        super().diagnose(report)
        report.values['state'] = self.state
        if not self.active:
            report.warn(self.state)

    # ---- inside -------------------------------------------------------------------------------

    def _say(self, e: Exception) -> None:
        """rclpy would swallow it."""
        if not isinstance(e, (ConfigError, ValueError, ParameterException)):
            traceback.print_exception(e)
        self.get_logger().error(' '.join(str(e).split()) or type(e).__name__)

    def _on_change_state(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        """Refuses a transition that does not exist here; rclpy's own answer would end the node."""
        try:
            return self._answer(request, response)
        except _rclpy.RCLError:
            what = request.transition.label or request.transition.id
            self.get_logger().error(f'transition {what} is not possible from {self.state}')
            response.success = False
            return response

    def _entities(self) -> list:
        return [*self.waitables, *self.clients, *self.services, *self.timers, *self.subscriptions, *self.publishers]

    def _clear(self) -> None:
        """Undoes `configure`."""
        if self._base is None:
            return
        self.release()
        actions = [w for w in self.waitables if isinstance(w, (ActionClient, ActionServer))]
        for kind, destroy in ((actions, lambda action: action.destroy()), (self.clients, self.destroy_client),
                              (self.services, self.destroy_service), (self.timers, self.destroy_timer),
                              (self.subscriptions, self.destroy_subscription),
                              (self.publishers, self.destroy_publisher)):
            for entity in [e for e in kind if e not in self._base]:
                destroy(entity)
                self._managed_entities.discard(entity)
        self._base = None
        self.quiet.clear()
        self.health.forget()
