# SPDX-License-Identifier: Apache-2.0
"""What the robot does with its hand while it resets a cell: look, pick up, drop, push.

Downward and pushing moves end when they press (`DOWN_N`, `PUSH_N`), far below the force limit.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from chef_control import basket
from chef_control.reset import CLOSE, OPEN, STAY, TOUCHED, Move, Routine, tool_yaw
from chef_control.reset_senses import Senses
from chef_task import spaces

DROP_Z = 0.12               # of the pinch, where it lets go: the benchmark's height
HOVER_Z = 0.17              # of the pinch, on its way over objects that lie on the floor
OVER_M, AGAIN_M = 0.09, 0.055       # more than that above any object's centre; the same with empty fingers
RADIUS_M = 0.025            # of an object, about
GRASP_ABOVE_M = 0.014       # the most that the pinch may be above an object's centre in a grasp
DOWN_N, GRASP_N, PUSH_N = 6.0, 14.0, 12.0       # what ends a downward move, a grasp, a pushing move
YIELD_N = 3.0               # beyond which the hand gives way upwards while the fingers close: slanted faces wedge it up
SLOW = 0.5                  # share of the highest speed where something may be touched
PUSHED_TO_M = 0.06          # objects pushed off a wall end within this of the centre, along each axis
BEHIND_M = (RADIUS_M + basket.FINGER_HALF_M + 0.008, 0.065)     # of closed fingers behind an object's centre
BACK_M = 0.005              # up, from what was touched


class Hand:
    """Routines of single acts, from where the hand is.

    Args:
      low, high: [3], corners of the box that the pinch point keeps to, m.
      yaw_most: rad, of the tool to either side.
      rng: for turns and directions that are left to chance.

    Attributes:
      falling: the object that was let go a moment ago.
    """

    def __init__(self, senses: Senses, low: np.ndarray, high: np.ndarray, yaw_most: float, rng: np.random.Generator):
        self._senses, self._low, self._high, self._yaw_most, self._rng = senses, low, high, yaw_most, rng
        self.falling: int | None = None

    def look(self, seconds: float) -> Routine:
        """Stands still for as long, that the tracker's noise can be taken out."""
        pinch = self._senses.pinch
        yield Move('look', pinch[:3], tool_yaw(pinch), STAY, until_s=seconds, tolerance_m=-1.0, required=False)

    def let_go(self) -> Routine:
        """Puts down what the fingers still hold, and opens them."""
        pinch = self._senses.pinch
        if not self._senses.wide:
            yield Move('lower', np.array([*pinch[:2], DROP_Z]), tool_yaw(pinch), STAY, until_s=4.0, required=False,
                       speed=1.0, guard_n=DOWN_N)
            yield from self._open('release')
            yield from self.up(HOVER_Z)

    def _open(self, phase: str, seconds: float = 0.6) -> Routine:
        pinch = self._senses.pinch
        yield Move(phase, pinch[:3].copy(), tool_yaw(pinch), OPEN, until_s=seconds, tolerance_m=-1.0, required=False,
                   until=lambda: self._senses.wide)

    def at(self, i: int) -> np.ndarray | None:
        """Where an object is, or was when last seen."""
        return self._senses.objects.last(i)

    def hover(self, over: float = OVER_M) -> float:
        """Height at which the pinch passes over everything but what it has just let go; over: above centres, m."""
        tops = [p[2] + over for i in range(len(spaces.OBJECTS)) if i != self.falling and (p := self.at(i)) is not None]
        least = HOVER_Z - OVER_M + over
        return float(np.clip(max([least, *tops]), least, 0.25))

    def leave(self, position: np.ndarray, yaw: float) -> Routine:
        """To the start pose, first up."""
        x, y, z = self._senses.pinch[:3]
        hover = min(self.hover(), position[2])
        if z < hover - 0.02:
            yield Move('up', np.array([x, y, hover]), tool_yaw(self._senses.pinch), OPEN, until_s=4.0, tolerance_m=0.02,
                       required=False)
        yield Move('arm', position, yaw, OPEN)

    def aside(self, position: np.ndarray, yaw: float) -> Routine:
        """Out of the cameras' sight of what is lost, a look, and back."""
        aside = np.array([position[0], -0.14 if position[1] > 0 else 0.14, 0.35])
        yield Move('aside', aside, yaw, OPEN)
        yield from self.look(1.0)
        yield Move('arm', position, yaw, OPEN)
        yield from self.look(0.5)

    def up(self, hover: float) -> Routine:
        x, y, z = self._senses.pinch[:3]
        if z < hover - 0.05:
            yield Move('up', np.array([x, y, hover]), tool_yaw(self._senses.pinch), OPEN, until_s=4.0, tolerance_m=0.02,
                       required=False)

    def pick(self, name: str, over: np.ndarray, yaw: float, z: float, hover: float) -> Generator[Move, str, bool]:
        """Down over a point [2], fingers closed, and up; whether something is between them then."""
        senses = self._senses
        yield from self.up(hover)
        yield Move(f'above {name}', np.array([*over, hover]), yaw, OPEN, until_s=8.0, tolerance_m=0.015, required=False)
        self.falling = None
        for height, speed, tolerance in ((z + 0.03, 1.0, 0.012), (z, SLOW, 0.004)):
            how = yield Move(f'down to {name}', np.array([*over, height]), yaw, OPEN, until_s=4.0, tolerance_m=tolerance,
                             required=False, speed=speed, guard_n=DOWN_N)
            if how == TOUCHED:
                break
        bottom = senses.pinch[:3].copy()
        if how == TOUCHED:      # fingers that close sink further: a little up first, and not from the object's top
            bottom[2] += BACK_M
            yield Move(f'back off {name}', bottom, yaw, OPEN, until_s=0.5, tolerance_m=0.003, required=False)
            if bottom[2] > z + GRASP_ABOVE_M:
                return False
        senses.forget_fingers()
        how = yield Move(f'grasp {name}', bottom, yaw, CLOSE, until_s=2.5, tolerance_m=-1.0, required=False,
                         until=lambda: senses.fingers_rest, guard_n=GRASP_N, yield_n=YIELD_N)
        if how == TOUCHED:
            yield from self._open(f'let go of {name}')
            return False
        if not senses.holding:
            return False
        yield Move(f'lift {name}', np.array([*bottom[:2], self.hover()]), yaw, CLOSE, until_s=6.0, tolerance_m=0.02,
                   required=False)
        return senses.holding

    def drop(self, name: str, goal: np.ndarray) -> Routine:
        turn = self._rng.uniform(-self._yaw_most, self._yaw_most)
        yield Move(f'carry {name}', np.array([*goal, self._senses.pinch[2]]), turn, CLOSE, until_s=8.0, required=False)
        if not self._senses.holding:
            return
        yield Move(f'lower {name}', np.array([*goal, DROP_Z]), turn, CLOSE, until_s=3.0, required=False, guard_n=DOWN_N)
        yield from self._open(f'release {name}', 0.3)

    def push(self, i: int, at: np.ndarray, goal: np.ndarray | None = None) -> Routine:
        """Closed fingers go down behind an object, as seen from its goal [2], and push it there along floor and slope.

        goal: the middle of the basket if not given. Where they cannot get behind it they go down on it, as far out as
        they may, and rake.
        """
        name, end = spaces.OBJECTS[i], goal
        if end is None:
            end = basket.CENTRE + np.clip(at[:2] - basket.CENTRE, -PUSHED_TO_M, PUSHED_TO_M)
        way = end - at[:2]
        if np.linalg.norm(way) < 0.04:
            way = self._rng.normal(size=2)
            end = at[:2] + 0.06 * way / np.linalg.norm(way)
        way = way / np.linalg.norm(way)
        yaw = float(np.clip(half_turn(math.atan2(way[1], way[0])), -self._yaw_most, self._yaw_most))    # fingers abreast
        yield from self.up(self.hover())
        for behind in BEHIND_M:
            start = np.clip(at[:2] - way * behind, self._low[:2], self._high[:2])
            low = max(basket.lowest_closed(start, yaw), self._low[2])
            how = yield from self._down_closed(name, start, yaw, low)
            excess = self._senses.pinch[2] - low
            if how != TOUCHED or excess < 0.012 or np.linalg.norm(start - at[:2]) < behind - 0.005:
                break
        for share in (0.25, 0.5, 0.75, 1.0):
            to = start + share * (end - way * BEHIND_M[0] - start)
            z = max(basket.lowest_closed(to, yaw), self._low[2]) + max(excess - BACK_M, 0.0)
            how = yield Move(f'push {name}', np.array([*to, z]), yaw, CLOSE, until_s=3.0, tolerance_m=0.006, required=False,
                             speed=SLOW, guard_n=PUSH_N)
            if how == TOUCHED:
                break
        x, y, _ = self._senses.pinch[:3]
        yield Move('up', np.array([x, y, self.hover()]), tool_yaw(self._senses.pinch), STAY, until_s=4.0, tolerance_m=0.02,
                   required=False)

    def _down_closed(self, name: str, xy: np.ndarray, yaw: float, low: float) -> Generator[Move, str, str]:
        """The closed fingers down to a height over a point [2]; backs off where they touch something first."""
        senses, hover = self._senses, self.hover()
        yield Move(f'behind {name}', np.array([*xy, hover]), yaw, CLOSE, until_s=8.0, tolerance_m=0.015, required=False)
        senses.forget_fingers()
        yield Move(f'close at {name}', np.array([*xy, hover]), yaw, CLOSE, until_s=1.0, tolerance_m=-1.0, required=False,
                   until=lambda: senses.fingers_rest)
        for height, speed in ((low + 0.05, 1.0), (low, SLOW)):
            how = yield Move(f'down behind {name}', np.array([*xy, height]), yaw, CLOSE, until_s=4.0, tolerance_m=0.004,
                             required=False, speed=speed, guard_n=DOWN_N)
            if how == TOUCHED:
                yield Move(f'back off {name}', senses.pinch[:3] + [0.0, 0.0, BACK_M], yaw, CLOSE, until_s=0.5,
                           tolerance_m=0.003, required=False)
                break
        return how


def half_turn(angle: float) -> float:
    """The same direction of a line, rad in [-pi/2, pi/2)."""
    return (angle + np.pi / 2) % np.pi - np.pi / 2
