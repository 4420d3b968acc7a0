# SPDX-License-Identifier: Apache-2.0
"""The reset of a cell without hands: the robot itself picks every object up and drops it at a random place.

From the tracker's positions alone, whose noise and gaps `ObjectWatch` takes out; shapes and orientations are not used:
closing fingers turn an object as they need it. An object on another one goes first; one that lies where the fingers
cannot close over it, high on the basket's slopes, is pushed down from behind; one that is lost is looked for again once
the others have moved. Then everything is looked at: what lies on another object, at a wall, or was not moved is done
again, `TRIES` times in all. `stir_hand` moves gently; should the safety gate stop the arm all the same, it rises and begins
anew, `FORCE_STOPS` times at most.
"""

from __future__ import annotations

import math

import numpy as np

from chef_control import basket
from chef_control.reset import ForceStop, ResetError, Routine, random_tool_pose, rise
from chef_control.reset_senses import Senses
from chef_control.stir_hand import AGAIN_M, GRASP_ABOVE_M, RADIUS_M, Hand, half_turn
from chef_task import spaces
from chef_task.limits import Limits

TRIES, GRASPS, FORCE_STOPS = 3, 6, 5
LONGEST_S = 130.0           # after which nothing more is begun
DROP_HALF_M = 0.10          # objects are dropped uniformly within this of the basket's centre: the benchmark's area
APART_M = 0.06              # least distance of where one is dropped from the others
# Of the check: centres nearer to the slopes' foot than this lie at a wall (the benchmark's own starts reach 0.00 to 0.01 m).
WALL_M = -0.004
ON_M, ABOVE_M = 0.045, 0.022    # horizontal and vertical distances at which one lies on the other
MOVED_M = 0.02              # an object that was never held must have moved by as much
ROOM_M = RADIUS_M + 0.004   # between a finger and another object's centre
GRASP_BELOW_M = 0.004       # of the pinch below an object's centre, where the floor allows
ASIDE_M = 0.015             # the most that the pinch may be beside an object, at the workspace's end
FRESH_RAD = np.pi / 4       # from the yaw of a grasp that failed
YAW_MOST = 1.4              # rad


class Stir:
    """One reset; `moves` is its routine. seed: of the places and turns."""

    def __init__(self, seed: int, senses: Senses, limits: Limits):
        self._rng, self._senses = np.random.default_rng(seed), senses
        centre, half = np.array(limits.reset_centre_m), np.array(limits.reset_size_m) / 2 - 0.003
        self._low, self._high = centre - half, centre + half
        self._yaw_most = min(YAW_MOST, limits.wrist_range_rad - 0.1)
        self._start: list[np.ndarray | None] = [None] * len(spaces.OBJECTS)    # positions at the beginning
        self._held = [False] * len(spaces.OBJECTS)          # was carried
        self._failed: list[list[float]] = [[] for _ in spaces.OBJECTS]      # yaws of grasps
        self._hand = Hand(senses, self._low, self._high, self._yaw_most, self._rng)

    def moves(self) -> Routine:
        """Raises ResetError('objects', why) when the objects are not in order after `TRIES`."""
        todo = set(range(len(spaces.OBJECTS)))
        pose = random_tool_pose(self._rng)
        tries = stops = 0
        self._began = self._senses.objects.now
        while True:
            try:
                yield from rise(self._senses.pinch)
                yield from self._hand.let_go()
                yield from self._hand.look(0.5)
                if all(self._senses.objects.position(i) is None for i in range(len(spaces.OBJECTS))):
                    raise ResetError('objects', 'the tracker gives no fresh poses of the objects')
                for i in todo:
                    if self._start[i] is None:
                        self._start[i] = self._senses.objects.position(i)
                yield from self._carry_all(todo)
                yield from self._hand.leave(*pose)
                yield from self._hand.look(1.0)
                wrong = self._wrong()
                if any(text.endswith(_LOST) for text in wrong.values()):
                    yield from self._hand.aside(*pose)
                    wrong = self._wrong()
            except ForceStop:
                stops += 1
                if stops > FORCE_STOPS:
                    raise
                continue
            if not wrong:
                return
            tries += 1
            if tries == TRIES or self._late():
                after = f'{tries} tries' if tries > 1 else f'one try of {LONGEST_S:.0f} s'
                raise ResetError('objects', f'{"; ".join(wrong.values())} after {after}')
            todo |= set(wrong)

    def _late(self) -> bool:
        return (self._senses.objects.now - self._began) * 1e-9 > LONGEST_S

    def _others(self, i: int) -> list[np.ndarray]:
        return [p for j in range(len(spaces.OBJECTS)) if j != i and (p := self._hand.at(j)) is not None]

    def _wrong(self) -> dict[int, str]:
        """What is not in order, by object."""
        wrong: dict[int, str] = {}
        watch, names = self._senses.objects, spaces.OBJECTS
        at = [watch.position(i) for i in range(len(names))]
        for i, p in enumerate(at):
            below = [names[j] for j, q in enumerate(at) if p is not None and q is not None and j != i and _on(p, q)]
            if p is None:
                wrong[i] = f'{names[i]} {_LOST}'
            elif below:
                wrong[i] = f'{names[i]} is still on {below[0]}'
            elif basket.off_floor(p[:2]) > WALL_M:
                wrong[i] = f'{names[i]} is still at a wall'
            elif watch.moving(i):
                wrong[i] = f'{names[i]} does not come to rest'
            elif not self._held[i] and self._start[i] is not None and np.linalg.norm(p - self._start[i]) < MOVED_M:
                wrong[i] = f'{names[i]} could not be moved'
        return wrong

    # ---- carrying ---------------------------------------------------------------------------------

    def _carry_all(self, todo: set[int]) -> Routine:
        """All of `todo`, the ones on top first; each is taken off it when it is done."""
        goals, again = self._goals(todo), set()
        while todo and not self._late():
            i = self._next(todo, goals, again)
            yield from self._carry(i, goals[i])
            todo.discard(i)

    def _next(self, todo: set[int], goals: dict[int, np.ndarray], again: set[int]) -> int:
        """Of those that nothing lies on one whose goal is free, chosen by chance; if there is none, its goal is."""
        at = {i: self._hand.at(i) for i in range(len(spaces.OBJECTS))}
        on_top = {i: [j for j, q in at.items() if j != i and q is not None and at[i] is not None and _on(q, at[i])]
                  for i in todo}
        for j in {j for above in on_top.values() for j in above} - todo - again:    # done, but in the way: once more
            again.add(j)
            todo.add(j)
            goals[j] = self._free_goal(j)
            on_top[j] = []
        bare = [i for i in todo if not on_top[i]] or list(todo)
        free = [i for i in bare if self._is_free(goals[i], i)] or bare
        roomy = [i for i in free if at[i] is not None and self._grasp(i, at[i])[2] >= ROOM_M] or free
        i = int(self._rng.choice(sorted(roomy)))
        if not self._is_free(goals[i], i):
            goals[i] = self._free_goal(i)
        return i

    def _draw(self) -> np.ndarray:
        return basket.CENTRE + self._rng.uniform(-DROP_HALF_M, DROP_HALF_M, 2)

    def _goals(self, todo: set[int]) -> dict[int, np.ndarray]:
        """Random places, apart from each other and from the objects that stay."""
        stay = [p[:2] for i in range(len(spaces.OBJECTS)) if i not in todo and (p := self._hand.at(i)) is not None]
        while True:     # almost every second draw will do
            goals = {i: self._draw() for i in sorted(todo)}
            if _least_distance([*goals.values(), *stay], fixed=len(stay)) >= APART_M:
                return goals

    def _is_free(self, goal: np.ndarray, i: int) -> bool:
        return all(np.linalg.norm(goal - p[:2]) >= APART_M for p in self._others(i))

    def _free_goal(self, i: int) -> np.ndarray:
        while True:
            goal = self._draw()
            if self._is_free(goal, i):
                return goal

    def _grasp(self, i: int, at: np.ndarray, failed: list[float] = ()) -> tuple[float, float, float]:
        """Yaw, height of the pinch, and room beside the fingers of a way to close over an object.

        One of the roomy ones by chance, low before high; as far as can be from the yaws that have failed.
        """
        others = np.array([p[:2] for p in self._others(i) if p[2] > at[2] - RADIUS_M]).reshape(-1, 2)
        ways = []
        for yaw in self._rng.permutation(np.linspace(-self._yaw_most, self._yaw_most, 29)):
            room = basket.finger_room(at[:2], yaw, others)
            z = max(basket.lowest_pinch(at[:2], yaw), at[2] - GRASP_BELOW_M, self._low[2])
            tight = max(ROOM_M - room, 0.0)
            high = max(z - at[2] - GRASP_BELOW_M, 0.0)
            near = max([FRESH_RAD - abs(half_turn(yaw - f)) for f in failed] + [0.0])
            ways.append((round(tight + high + 0.01 * near, 3), yaw, z, room))
        _, yaw, z, room = min(ways, key=lambda way: way[0])
        return float(yaw), float(z), float(room)

    def _carry(self, i: int, goal: np.ndarray) -> Routine:
        """Grasps an object and drops it at its goal [2]; gives up after some tries, which the check then finds."""
        name, failed = spaces.OBJECTS[i], self._failed[i]
        for k in range(GRASPS):
            at = self._hand.at(i)
            if at is None or self._late() or basket.off_floor(at[:2]) > basket.WALL_TOP_M - basket.FOOT_M:
                return
            yaw, z, _ = self._grasp(i, at, failed)
            over = np.clip(at[:2], self._low[:2], self._high[:2])
            if z > at[2] + GRASP_ABOVE_M or np.linalg.norm(over - at[:2]) > ASIDE_M:
                yield from self._hand.push(i, at)
                continue
            failed.append(yaw)      # until it holds, also where a force stop ends it
            hover = self._hand.hover(AGAIN_M) if k else self._hand.hover()
            if (yield from self._hand.pick(name, over, yaw, z, hover)):
                self._held[i] = True
                failed.clear()
                yield from self._hand.drop(name, goal)
                self._hand.falling = i
                return
        if (at := self._hand.at(i)) is not None and not self._late():
            yield from self._hand.push(i, at, goal)


_LOST = 'is not seen by the tracker'


def _on(upper: np.ndarray, lower: np.ndarray) -> bool:
    """Whether the first of two positions [3] is that of an object that lies on the second's."""
    return bool(np.linalg.norm(upper[:2] - lower[:2]) < ON_M and upper[2] - lower[2] > ABOVE_M)


def _least_distance(points: list[np.ndarray], fixed: int) -> float:
    """Between any two of points [n][2], but for the last `fixed` among themselves; inf for none."""
    n = len(points)
    return min((float(np.linalg.norm(points[a] - points[b])) for a in range(n - fixed) for b in range(a + 1, n)),
               default=math.inf)


def stir_reset(triplet: int, seed: int, senses: Senses, limits: Limits) -> Routine:
    """See `Stir`."""
    yield from Stir(seed, senses, limits).moves()
