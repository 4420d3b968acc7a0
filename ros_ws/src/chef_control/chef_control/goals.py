# SPDX-License-Identifier: Apache-2.0
"""Asking an action server for something, with a deadline on every answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.node import Node
from unique_identifier_msgs.msg import UUID


class Goals:
    """One goal at a time of one action server. Call `poll` some ten times a second.

    A goal that is not accepted in time is cancelled by its id, as the server may have it all the same and
    only its answer was lost: nothing must move that nobody waits for.

    Args:
      on_error: called with one line when a goal is refused, or not accepted or not done in time.
    """

    ACCEPT_S = 5.0      # wall time to wait for the server's yes or no

    def __init__(self, node: Node, action, name: str, on_error: Callable[[str], None]):
        self._client = ActionClient(node, action, name)
        self._action, self._name, self._on_error = action, name, on_error
        self._handle: ClientGoalHandle | None = None
        self._deadline: float | None = None     # of what is awaited now; None: nothing is
        self._id: UUID | None = None

    @property
    def ready(self) -> bool:
        """Whether every endpoint of the server is known: what is sent before that is lost."""
        return self._client.server_is_ready()

    @property
    def waiting(self) -> bool:
        """Whether a goal's result is due."""
        return self._deadline is not None

    def send(self, goal, done: Callable, deadline_s: float) -> None:
        """Sends a goal; `done` gets its result, within `deadline_s` of its acceptance or not at all."""
        self._id = mine = UUID(uuid=list(uuid.uuid4().bytes))
        self._handle, self._deadline = None, time.monotonic() + self.ACCEPT_S

        def answered(future):
            if self._id is not mine:
                if future.result().accepted:
                    future.result().cancel_goal_async()
                return
            if not future.result().accepted:
                self._give_up(f'{self._name} was refused')
                return
            self._handle, self._deadline = future.result(), time.monotonic() + deadline_s
            self._handle.get_result_async().add_done_callback(finished)

        def finished(future):
            if self._id is mine:
                self._forget()
                done(future.result().result)

        self._client.send_goal_async(goal, goal_uuid=mine).add_done_callback(answered)

    def cancel(self) -> None:
        """Asks the server to end the goal; its result still comes."""
        if self.waiting:
            handle = self._handle or ClientGoalHandle(
                self._client, self._id, self._action.Impl.SendGoalService.Response())
            handle.cancel_goal_async()

    def poll(self) -> None:
        """Gives up on an answer that is too late."""
        if self.waiting and time.monotonic() > self._deadline:
            self.cancel()
            self._give_up(f'{self._name} did not {"end" if self._handle else "answer"} in time')

    def _forget(self) -> None:
        self._id = self._handle = self._deadline = None

    def _give_up(self, error: str) -> None:
        self._forget()
        self._on_error(error)
