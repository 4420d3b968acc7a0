# SPDX-License-Identifier: Apache-2.0
"""Carries out a reset routine: one velocity command for every control period, until it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from chef_control.reset import (ARRIVED, DONE, LATE, STAY, TOUCHED, ForceStop, Move, Place, ResetError, Routine, Servo,
                                place_reset)
from chef_control.reset_senses import Senses
from chef_control.stir import stir_reset
from chef_task import spaces

__all__ = ['HOLD_ACTION', 'ROUTINES', 'ForceStop', 'ResetError', 'ResetRunner']
ROUTINES = {'place': place_reset, 'stir': stir_reset}      # by a cell's `reset`
YIELD_M_PER_N, YIELD_AHEAD_M = 0.002, 0.015     # of a Move that gives way: how far its goal goes ahead of the pinch
YIELD_MOST_M = 0.025        # the most that it gives way
HOLD_ACTION = np.zeros(spaces.ACTION_SIZE, np.float32)


class ResetRunner:
    """Driven by the tool's pose: each new sample (20 Hz or faster) brings the next command.

    Args:
      routine: yields Moves and Places.
      command: called with (stamp, action [5], move) to command the arm; returns at once.
      place: called with (triplet, seed); returns '' or what went wrong.
      senses: what the routine knows of the cell; whoever runs this feeds it with all but the pinch's pose.

    Attributes: force_stops, how often `interrupt` was called.
    """

    def __init__(self, routine: Routine, command: Callable, place: Callable, senses: Senses):
        self._routine, self._send, self._place, self._senses = routine, command, place, senses
        self._last: tuple | None = None
        self._servo = Servo()
        self._task: Move | Place | None = None
        self._since = self._stamp = 0
        self.done = False
        self.phase = ''
        self.remaining_m = 0.0
        self._settled_after: int | None = None
        self.force_stops = 0
        self._interrupted = ''
        self._goal: np.ndarray | None = None    # of a Move that had to give way
        self._yields = self._beat = False

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
        if stamp < self._stamp + 0.9 * spaces.CONTROL_PERIOD_NS and not self._interrupted:
            return
        self._stamp = stamp
        self._senses.on_pinch(stamp, pinch_pose)
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
        while (ended := self._ended(stamp, pinch_pose)) or self._task is None or self._interrupted:
            self._task, self._since = self._next(ended or None), stamp
            if self._task is None:
                # A last hold, so that what follows sees the world after the last change.
                self._settled_after = stamp
                self._command(stamp, HOLD_ACTION, False)
                return
            self.phase = self._task.phase
            if isinstance(self._task, Place):
                self._command(stamp, HOLD_ACTION, False)
                return
        self._command(stamp, self._servo.action(self._given_way(), pinch_pose), True)

    def _given_way(self) -> Move:
        """The Move under way, as far as it had to give way, the fingers waiting meanwhile and every other period."""
        if not self._task.yield_n:
            return self._task
        self._beat = not self._beat
        return dataclasses.replace(self._task, position=self._task.position if self._goal is None else self._goal,
                                   gripper=self._task.gripper if self._beat and not self._yields else STAY)

    def interrupt(self, reason: str) -> None:
        """The safety gate stopped the arm at the force limit, and has been cleared: the routine begins anew.

        Raises ForceStop, with the next pose, where the routine cannot.
        """
        self._interrupted, self._last = reason, None
        self.force_stops += 1

    def _next(self, how: str | None) -> Move | Place | None:
        """The routine's next task, None at its end; how: the last one ended."""
        try:
            if self._interrupted:
                reason, self._interrupted = self._interrupted, ''
                task = self._routine.throw(ForceStop(reason))
            else:
                task = self._routine.send(how)
        except StopIteration:
            return None
        self._goal, self._yields = None, False
        if isinstance(task, Move) and (task.guard_n or task.yield_n):
            self._senses.tare()
        return task

    def _ended(self, stamp: int, pinch_pose) -> str:
        """How the Move under way has ended; '' if it has not."""
        move = self._task
        if move is None or self._interrupted:
            return ''
        self.remaining_m = float(np.linalg.norm(move.position - np.asarray(pinch_pose)[:3]))
        push_n = self._senses.push_n() if move.guard_n or move.yield_n else 0.0
        if move.guard_n and push_n > move.guard_n:
            return TOUCHED
        self._yields = bool(move.yield_n and push_n > move.yield_n)
        if self._yields:
            up = np.array([0.0, 0.0, min(YIELD_M_PER_N * (push_n - move.yield_n), YIELD_AHEAD_M)])
            self._goal = np.asarray(pinch_pose)[:3] + up
            if self._goal[2] > move.position[2] + YIELD_MOST_M:
                return TOUCHED
        if stamp - self._since > spaces.CONTROL_PERIOD_NS:
            if self._servo.arrived(move, pinch_pose):
                return ARRIVED
            if move.until is not None and move.until():
                return DONE
        if (stamp - self._since) * 1e-9 < move.until_s:
            return ''
        if move.required:
            self._command(stamp, HOLD_ACTION, False)
            raise ResetError('timeout', f'{move.phase}: {self.remaining_m * 1e3:.0f} mm short after '
                                        f'{move.until_s:.0f} s')
        return LATE
