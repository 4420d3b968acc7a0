# SPDX-License-Identifier: Apache-2.0
"""Carries a reset's routine out in a simulated world, as the graph's reset node does in a cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chef_control.reset_runner import ROUTINES, ResetError, ResetRunner
from chef_control.reset_senses import Senses
from chef_control.safety import SafetyGate
from chef_sim.world import World
from chef_task import geometry
from chef_task.limits import Limits
from chef_task.observation import PINCH_FROM_TCP
from chef_task.records import Reason

Tracker = Callable[[int, np.ndarray], np.ndarray]     # stamp, true poses [3, 7] to what is told of them
_STOP_PERIODS = 10      # for which the gate holds a stop at least


def carry_out(routine: str, triplet: int, seed: int, *, world: World, limits: Limits, gate: SafetyGate,
              advance: Callable, command: Callable, tracker: Tracker | None = None,
              began: Callable = lambda runner: None) -> None:
    """A reset by a routine of `ROUTINES`, from the state the world is in.

    Args:
      advance: called with `Senses` for one control period, whose wrench they are told.
      command: called with (stamp, action [5], move).
      tracker: what the routine is told of the objects, instead of where they are.

      began: called with what carries it out.

    Raises:
      ResetError: it failed, or the gate stopped the arm for another reason than force.
    """
    senses = Senses()

    def place(triplet: int, seed: int) -> str:
        if triplet == world.triplet:
            world.place(seed)
        else:
            world.set_triplet(triplet, seed)
        return ''
    runner = ResetRunner(ROUTINES[routine](triplet, seed, senses, limits), command, place, senses)
    began(runner)
    while True:
        poses = np.array(world.sample('objects')['poses'])
        senses.on_objects(world.stamp_ns, tracker(world.stamp_ns, poses) if tracker else poses)
        senses.on_gripper(world.sample('gripper')['position'])
        runner.on_pose(world.stamp_ns, geometry.compose(world.sample('tcp')['pose'], PINCH_FROM_TCP))
        if runner.done:
            return
        advance(senses)
        if gate.stopped:
            _recover(gate, runner, advance)


def _recover(gate: SafetyGate, runner: ResetRunner, advance: Callable) -> None:
    """As the reset node after a force stop: rearms the gate half a second later, and goes on."""
    reason = gate.reason
    if not reason.startswith(Reason.FORCE_LIMIT.value):
        raise ResetError('safety', gate.why)
    for _ in range(_STOP_PERIODS):
        advance()
    if error := gate.clear():
        raise ResetError('safety', error)
    runner.interrupt(reason)
