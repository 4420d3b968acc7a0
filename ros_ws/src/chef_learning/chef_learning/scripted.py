# SPDX-License-Identifier: Apache-2.0
"""A policy that stacks by rule, from the objects' poses: an instrument for tests, and a yardstick for what is learned.

It knows that red goes onto blue, and of the shapes only what their poses say: which of an object's axes stands
upright, and how the others lie. It grasps across two of its faces, tries again when that fails, and leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from chef_task import geometry
from chef_task.rewards import MAIN_TASK, OBJECT_SIZE_M, TASKS
from chef_task.spaces import GRASP_INWARD, LINEAR_SPEED_M_S, WRIST_SPEED_RAD_S

OPEN, CLOSE = -1.0, 1.0
_GAIN = 4.0             # 1/s, of the servo; the arm's own lag is 0.1 s
_HOVER_M = 0.06         # above an object, where the fingers pass over all others that lie on the floor
_GRASP_M = 0.0705       # lowest height of the pinch: the workspace ends at 0.0698
_CARRY_M = 0.055        # of red's centre above where it is put down
_LEAVE_M = 0.125        # of the pinch above red
_PRESSED_N = 6.0        # the fingers stand on something
_SLOW = 0.35            # share of the highest speed near contact
_YAW_MOST = np.pi / 2 - 0.05    # rad, of the wrist either way


class _Scene:
    """What an observation says, of its newest step. Positions in m, [3]; yaws in rad."""

    def __init__(self, observation: Mapping[str, np.ndarray]):
        def newest(key: str) -> np.ndarray:
            return np.asarray(observation[key][-1], float)
        pinch = newest('pinch_pose')
        self.pinch, self.yaw = pinch[:3], float(geometry.yaw(pinch[3:]))
        red, blue = newest('red_pose'), newest('blue_pose')
        self.red, self.blue = red[:3], blue[:3]
        self.red_faces, self.blue_faces = _face_yaw(red[3:]), _face_yaw(blue[3:])
        self.grasped = newest('gripper_grasp')[0] == GRASP_INWARD
        self.force_n = float(np.linalg.norm(newest('wrist_force'))) if 'wrist_force' in observation else 0.0


def _face_yaw(quat: np.ndarray) -> float:
    """Of the axis of an object that lies flattest, rad; others are a quarter turn from it."""
    axes = [geometry.rotate(quat, e) for e in np.eye(3)]
    flat = min(axes, key=lambda a: abs(a[2]))
    return float(np.arctan2(flat[1], flat[0]))


def _nearest(yaw: float, to: float, turn: float) -> float:
    """yaw + k * turn nearest to another yaw, among those that the wrist reaches, rad."""
    choices = [c for k in range(-8, 9) if abs(c := yaw + k * turn) <= _YAW_MOST]
    return min(choices, key=lambda c: abs(c - to)) if choices else to


class ScriptedPolicy:
    """Stacks red onto blue; acts by rule alone, the seed is not used.

    Attributes: version, task (the main one), needs_objects.
    """

    def __init__(self, seed: int = 0):
        self.version, self.task, self.needs_objects = 'scripted', TASKS.index(MAIN_TASK), True
        self.reset()

    def reset(self) -> None:
        self._scene: _Scene | None = None
        self._plan = self._stack()

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        self._scene = _Scene(observation)
        return next(self._plan)

    # ---- the script -------------------------------------------------------------------------------

    def _stack(self) -> Iterator[np.ndarray]:
        tries = 0
        while True:
            yield from self._pick(across=tries % 2)
            tries += 1
            if self._scene.grasped:
                yield from self._place()
            yield from self._leave()
            while self._stacked():
                yield self._toward(self._over(self._scene.red, _LEAVE_M), self._scene.yaw, OPEN)

    def _pick(self, across: int) -> Iterator[np.ndarray]:
        """Over red, down to it, fingers closed, and up. across: 0 or 1, which two of its faces."""
        s = self._scene
        yaw = _nearest(s.red_faces, s.yaw, np.pi / 2)
        if across:
            yaw = _nearest(yaw + np.pi / 2, s.yaw, np.pi)
        hover = self._over(s.red, _HOVER_M)
        yield from self._move(lambda s: (hover, yaw), OPEN, 0.01, steps=140)
        red = self._scene.red.copy()
        grasp = np.array([red[0], red[1], max(red[2], _GRASP_M)])
        yield from self._move(lambda s: (grasp, yaw), OPEN, 0.004, steps=60, speed=0.6,
                              stop=lambda s: s.force_n > _PRESSED_N)
        for _ in range(18):
            yield self._toward(self._scene.pinch, self._scene.yaw, CLOSE)
        top = self._scene.pinch + np.array([0.0, 0.0, _CARRY_M + 0.02])
        yield from self._move(lambda s: (top, yaw), CLOSE, 0.012, steps=50)

    def _place(self) -> Iterator[np.ndarray]:
        """Red over blue, its faces along blue's, down until it stands, fingers open."""
        s = self._scene
        turn = _nearest(s.blue_faces - s.red_faces + s.yaw, s.yaw, np.pi / 2)

        def above(height: float) -> Callable[[_Scene], tuple[np.ndarray, float]]:
            def goal(s: _Scene):
                return s.blue + np.array([0.0, 0.0, height]) + s.pinch - s.red, turn
            return goal
        lost = lambda s: not s.grasped      # noqa: E731
        yield from self._move(above(OBJECT_SIZE_M + _CARRY_M), CLOSE, 0.02, steps=120, stop=lost)
        yield from self._move(above(OBJECT_SIZE_M + 0.02), CLOSE, 0.004, steps=60, speed=0.6, stop=lost)
        yield from self._lower(above(OBJECT_SIZE_M - 0.01), lost)
        for _ in range(10):
            yield self._toward(self._scene.pinch, self._scene.yaw, OPEN)

    def _lower(self, goal, lost) -> Iterator[np.ndarray]:
        """Slowly, until red does not get any lower: it stands."""
        heights: list[float] = []
        for _ in range(60):
            s = self._scene
            heights.append(s.red[2])
            stands = len(heights) > 8 and heights[-8] - heights[-1] < 0.0015
            if stands or lost(s) or s.force_n > _PRESSED_N:
                return
            position, yaw = goal(s)
            yield self._toward(position, yaw, CLOSE, speed=_SLOW)

    def _leave(self) -> Iterator[np.ndarray]:
        """Straight up, first, so that what was let go stays where it is."""
        top = self._scene.pinch + np.array([0.0, 0.0, _LEAVE_M])
        yaw = self._scene.yaw
        yield from self._move(lambda s: (top, yaw), OPEN, 0.02, steps=50,
                              stop=lambda s: s.pinch[2] > s.red[2] + _LEAVE_M - 0.01 or s.pinch[2] > 0.265)

    def _stacked(self) -> bool:
        d = self._scene.red - self._scene.blue
        return bool(np.hypot(d[0], d[1]) < 0.04 and d[2] > 0.02)

    # ---- motion -----------------------------------------------------------------------------------

    @staticmethod
    def _over(position: np.ndarray, height: float) -> np.ndarray:
        return position + np.array([0.0, 0.0, height])

    def _move(self, goal: Callable[[_Scene], tuple[np.ndarray, float]], gripper: float, tolerance_m: float, *,
              steps: int, speed: float = 1.0, stop: Callable[[_Scene], bool] = lambda s: False) -> Iterator[np.ndarray]:
        """To the position and yaw that `goal` gives, until there, `stop`, or for `steps`."""
        for _ in range(steps):
            s = self._scene
            position, yaw = goal(s)
            if stop(s) or (np.linalg.norm(position - s.pinch) < tolerance_m and abs(_wrapped(yaw - s.yaw)) < 0.06):
                return
            yield self._toward(position, yaw, gripper, speed)

    def _toward(self, position: np.ndarray, yaw: float, gripper: float, speed: float = 1.0) -> np.ndarray:
        """The action [5] towards a position of the pinch and a yaw; speed: share of the highest."""
        s = self._scene
        linear = _GAIN * (position - s.pinch) / LINEAR_SPEED_M_S
        linear *= min(1.0, speed / max(np.abs(linear).max(), 1e-9))
        turn = _GAIN * _wrapped(yaw - s.yaw) / WRIST_SPEED_RAD_S
        return np.clip([*linear, turn, gripper], -1.0, 1.0).astype(np.float32)


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
