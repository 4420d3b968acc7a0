# SPDX-License-Identifier: Apache-2.0
"""Carries out a reset routine: one velocity command for every control period, until it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from chef_control.reset import Move, Place, Servo
from chef_task import spaces

HOLD_ACTION = np.zeros(spaces.ACTION_SIZE, np.float32)


class ResetError(Exception):
    """The reset failed; kind: 'safety', 'timeout', 'objects' or 'cancelled'."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


class ResetRunner:
    """Driven by the tool's pose: each new sample (20 Hz or faster) brings the next command.

    Args:
      routine: yields Moves and Places.
      command: called with (stamp, action [5], move) to command the arm; returns at once.
      place: called with (triplet, seed); returns '' or what went wrong.
    """

    def __init__(self, routine: Iterator[Move | Place], command: Callable, place: Callable):
        self._routine, self._send, self._place = routine, command, place
        self._last: tuple | None = None
        self._servo = Servo()
        self._task: Move | Place | None = None
        self._since = self._stamp = 0
        self.done = False
        self.phase = ''
        self.remaining_m = 0.0
        self._settled_after: int | None = None

    @property
    def stamp(self) -> int:
        """Of the newest pose acted on, ns: it grows as long as the reset makes progress."""
        return self._stamp

    def _command(self, stamp: int, action, move: bool) -> None:
        self._last = (stamp, action, move)
        self._send(stamp, action, move)

    def on_pose(self, stamp: int, pinch_pose) -> None:
        """The pinch's pose [7] at a stamp, ns.

        Raises:
          ResetError: a required move did not arrive in time, or the objects could not be placed.
        """
        if self.done:
            return
        if stamp == self._stamp and self._last is not None:
            self._command(*self._last)      # in lockstep: the world says again that it waits
            return
        if stamp < self._stamp + 0.9 * spaces.CONTROL_PERIOD_NS:
            return
        self._stamp = stamp
        if self._settled_after is not None:
            self.done = stamp > self._settled_after
            return
        if isinstance(self._task, Place):
            # A period after the hold: the arm is at rest, and in lockstep time stands still. Together with the hold it
            # would be chance whether that period passes with the old objects or with the new ones.
            error = self._place(self._task.triplet, self._task.seed)
            if error:
                raise ResetError('objects', error)
            self._task = None
        while self._task is None or self._finished(stamp, pinch_pose):
            self._task = next(self._routine, None)
            self._since = stamp
            if self._task is None:
                # A last hold, so that what follows sees the world after the last change.
                self._settled_after = stamp
                self._command(stamp, HOLD_ACTION, False)
                return
            self.phase = self._task.phase
            if isinstance(self._task, Place):
                self._command(stamp, HOLD_ACTION, False)
                return
        self._command(stamp, self._servo.action(self._task, pinch_pose), True)

    def _finished(self, stamp: int, pinch_pose) -> bool:
        move = self._task
        self.remaining_m = float(np.linalg.norm(move.position - np.asarray(pinch_pose)[:3]))
        if self._servo.arrived(move, pinch_pose) and stamp - self._since > spaces.CONTROL_PERIOD_NS:
            return True
        if (stamp - self._since) * 1e-9 < move.until_s:
            return False
        if move.required:
            self._command(stamp, HOLD_ACTION, False)
            raise ResetError('timeout', f'{move.phase}: {self.remaining_m * 1e3:.0f} mm short after '
                                        f'{move.until_s:.0f} s')
        return True


