# SPDX-License-Identifier: Apache-2.0
"""Executable `scene_reset`: randomises the objects and the arm; action `reset_scene`."""

from __future__ import annotations

import time

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from std_srvs.srv import Trigger

from chef_control.lifecycle import MovingNode
from chef_control.node import (CELL_CONFIG, DEVICE_DEADLINE, LOCKSTEP, LOCKSTEP_DEADLINE, WORLD_SOCKET, ConfigError, run,
                               to_time)
from chef_control.reset_runner import HOLD_ACTION, ROUTINES, ResetError, ResetRunner
from chef_control.reset_senses import Senses
from chef_control.sensors import subscribe
from chef_msgs.action import ResetScene
from chef_msgs.msg import Command, SafetyState
from chef_task import geometry
from chef_task.cell import CellConfig
from chef_task.observation import PINCH_FROM_TCP
from chef_task.qos import profile
from chef_task.records import Reason

ERRORS = {'safety': ResetScene.Result.SAFETY, 'timeout': ResetScene.Result.TIMEOUT,
          'objects': ResetScene.Result.OBJECTS, 'cancelled': ResetScene.Result.CANCELLED}


class SceneResetNode(MovingNode):
    """Rearms the safety gate, then runs the cell's reset routine; rearms it again where the arm pressed too hard."""

    PARAMS = (CELL_CONFIG, WORLD_SOCKET, LOCKSTEP, LOCKSTEP_DEADLINE, DEVICE_DEADLINE)
    SILENCE_S = 10.0     # without a new pose or the safety gate's answer a reset fails
    RETRY_S = 0.5
    PLACE_DEADLINE_S = 30.0
    BELATED_S = 0.3      # after a stop was cleared, in which the gate's states may still be from before
    _goal_handle = None
    _world = None

    def configure(self) -> None:
        self._cell = CellConfig.load(self.params['cell_config'])
        self._routine = ROUTINES[self._cell.reset]
        self._world = self._connect() if self._cell.reset == 'place' else None
        self._runner: ResetRunner | None = None
        self._error: ResetError | None = None
        self._cleared, self._refused = False, ''
        self._stopped = ''                  # at the force limit, by the gate: goes on once that is cleared
        self._recovered = 0.0
        self._senses = Senses()
        self._heard = 0.0
        self._stamp = 0
        self._command_pub = self.create_lifecycle_publisher(Command, 'command', profile('stream'))
        self.quiet += subscribe(self, ('tcp_pose', 'objects', 'wrench', 'gripper'), self.lockstep, self._on_sample).values()
        self.create_subscription(SafetyState, 'safety/state', self._on_safety, profile('state'))
        self._rearm = self.create_client(Trigger, 'safety/rearm')
        self._server = ActionServer(
            self, ResetScene, 'reset_scene', execute_callback=self._finish, goal_callback=self._accept,
            cancel_callback=lambda _: self._fail(ResetError('cancelled', 'cancelled')) or CancelResponse.ACCEPT,
            handle_accepted_callback=self._begin)
        self.every(0.05, self._watch)

    def hungry(self) -> bool:
        return self._goal_handle is not None

    def _connect(self):
        """The simulated world, where the reset places the objects by itself."""
        from chef_sim.client import DeviceClient, DeviceError

        try:
            return DeviceClient(self.params['world_socket'], self.get_name(), (),
                                connect_deadline_s=self.params['device_deadline_s'])
        except DeviceError as e:
            raise ConfigError(str(e)) from None

    def _accept(self, goal) -> GoalResponse:
        ok = self.active and self._goal_handle is None and 1 <= goal.triplet <= 5
        return GoalResponse.ACCEPT if ok else GoalResponse.REJECT

    def _begin(self, handle) -> None:
        self._goal_handle, self._error, self._cleared, self._refused = handle, None, False, ''
        self._heard, self._stopped = time.monotonic(), ''
        routine = self._routine(handle.request.triplet, handle.request.seed, self._senses, self._cell.limits)
        self._runner = ResetRunner(routine, self._command, self._place, self._senses)
        self._ask_to_rearm()

    def _ask_to_rearm(self) -> None:
        """Harmless to repeat, so it is repeated until answered."""
        self._asked = time.monotonic()
        self._rearm.call_async(Trigger.Request()).add_done_callback(self._on_cleared)

    def _on_cleared(self, future) -> None:
        self._cleared, self._refused = future.result().success, future.result().message
        if self._refused.startswith((Reason.NODE_LOST.value, Reason.OPERATOR_STOP.value)):
            self._fail(ResetError('safety', self._refused))
        elif self._cleared and self._stopped:
            self._recovered = self._heard = time.monotonic()
            self._runner.interrupt(self._stopped)
            self._stopped = ''

    def _on_sample(self, stream: str, stamp: int, sample) -> None:
        self._stamp = max(self._stamp, stamp)
        try:
            if stream == 'objects':
                self._senses.on_objects(stamp, sample['poses'])
            elif stream == 'gripper':
                self._senses.on_gripper(sample['position'][0])
            elif stream == 'wrench':
                if self._goal_handle is not None:
                    self._senses.on_wrench(sample['force'])
            elif self._goal_handle is not None and self._cleared and self._error is None:
                before = self._runner.stamp
                self._runner.on_pose(stamp, geometry.compose(sample['pose'], PINCH_FROM_TCP))
                if self._runner.stamp != before:
                    self._heard = time.monotonic()
        except ResetError as e:
            self._fail(e)
        except ValueError as e:     # a sample that is not what its stream should be
            self._fail(ResetError('objects' if stream == 'objects' else 'safety', str(e)))
        self._complete()

    def _on_safety(self, m: SafetyState) -> None:
        if not m.stopped or not self._cleared or self._goal_handle is None:
            return
        if not m.reason.startswith(Reason.FORCE_LIMIT.value):
            self._fail(ResetError('safety', m.reason))
        elif time.monotonic() - self._recovered > self.BELATED_S and self._error is None:
            self.get_logger().warning(f'{m.reason} in {self._runner.phase!r}')
            self._stopped, self._cleared, self._heard = m.reason, False, time.monotonic()
            self._command(self._stamp, HOLD_ACTION, False)
            self._ask_to_rearm()

    def _watch(self) -> None:
        if self._goal_handle is None:
            return
        if not self._cleared and time.monotonic() - self._asked > self.RETRY_S:
            self._ask_to_rearm()
        if time.monotonic() - self._heard > self.SILENCE_S:
            what = 'no new pose of the tool' if self._cleared else \
                f'the safety gate is not ready, {self._refused or "no answer"},'
            self._fail(ResetError('timeout', f'{what} for {self.SILENCE_S:.0f} s'))
        self._goal_handle.publish_feedback(ResetScene.Feedback(
            phase=self._runner.phase, remaining_m=self._runner.remaining_m))
        self._complete()

    def _command(self, stamp: int, action, move: bool) -> None:
        m = Command(source='reset', mode=Command.MOVE if move else Command.HOLD, action=action)
        m.header.stamp = to_time(stamp)
        self._command_pub.publish(m)

    def _place(self, triplet: int, seed: int) -> str:
        try:
            reply = self._world.place(seed, triplet, deadline_s=self.PLACE_DEADLINE_S)
        except (ConnectionError, TimeoutError) as e:
            return str(e)
        finally:
            self._heard = time.monotonic()
        return '' if reply.get('ok') else str(reply.get('error'))

    def _fail(self, error: ResetError) -> None:
        if self._goal_handle is not None and self._error is None:
            self._error = error
            self._command(self._stamp, HOLD_ACTION, False)

    def _complete(self) -> None:
        if self._goal_handle is not None and (self._error is not None or self._runner.done):
            handle, self._goal_handle = self._goal_handle, None
            handle.execute()

    def _finish(self, handle) -> ResetScene.Result:
        result = ResetScene.Result()
        if self._error is not None:
            result.error_code, result.error_msg = ERRORS[self._error.kind], str(self._error)
            result.termination_reason = str(self._error)
            handle.canceled() if handle.is_cancel_requested else handle.abort()
        else:
            handle.succeed()
        return result

    def halt(self) -> None:
        self._fail(ResetError('cancelled', 'stopped while the scene was reset'))     # commands a hold
        self._complete()

    def settled(self) -> bool:
        return self._goal_handle is None

    def release(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None


def main() -> None:
    run(SceneResetNode, 'scene_reset')
