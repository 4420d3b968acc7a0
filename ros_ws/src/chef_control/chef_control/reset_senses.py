# SPDX-License-Identifier: Apache-2.0
"""What a reset knows of its cell: newest samples, kept by whoever runs the routine, and nothing of ROS."""

from __future__ import annotations

from collections import deque

import numpy as np

from chef_task import spaces
from chef_task.spaces import GRIPPER_CLOSED

WINDOW_NS = 500_000_000     # of sightings that make a position: at 20 Hz ten, whose median has 2 mm of noise of 5 mm
MOVING_M = 0.012            # between the medians of two windows: four times what such noise does
LEAST_SEEN = 3              # sightings in a window, else the object is lost
EMPTY = 232.0               # of the gripper's register: beyond it the fingers are less than 8 mm apart
_TARE_SAMPLES = 10          # of the wrench


class ObjectWatch:
    """The objects' positions out of a tracker's noise.

    A tracker says NaN where it does not see an object, or says its last pose again, bit for bit: neither is a
    sighting. A position is the median of the last half second's, so that single wild ones do no harm.

    Attributes: now, ns.
    """

    def __init__(self, count: int = len(spaces.OBJECTS)):
        self._seen: list[deque] = [deque() for _ in range(count)]
        self._last: list[np.ndarray | None] = [None] * count        # positions
        self._raw: list[bytes] = [b''] * count
        self.now = 0

    def on_sample(self, stamp: int, poses) -> None:
        """poses: [3, 7], of which only the positions are used. stamp: ns."""
        self.now = max(self.now, stamp)
        for i, pose in enumerate(np.asarray(poses, float)):
            raw = pose[:3].tobytes()
            if np.isfinite(pose[:3]).all() and raw != self._raw[i]:
                self._seen[i].append((stamp, pose[:3].copy()))
            self._raw[i] = raw
            while self._seen[i] and self._seen[i][0][0] < self.now - 2 * WINDOW_NS:
                self._seen[i].popleft()

    def at(self, stamp: int) -> None:
        """It is now so late, ns: a tracker that says nothing more sees nothing."""
        self.now = max(self.now, stamp)

    def _median(self, i: int, start: int, end: int) -> np.ndarray | None:
        seen = [p for stamp, p in self._seen[i] if start < stamp <= end]
        return np.median(seen, axis=0) if len(seen) >= LEAST_SEEN else None

    def position(self, i: int) -> np.ndarray | None:
        """[3], m, now; None for an object that is lost."""
        position = self._median(i, self.now - WINDOW_NS, self.now)
        if position is not None:
            self._last[i] = position
        return position

    def last(self, i: int) -> np.ndarray | None:
        """[3], m, now or where it was last asked for and seen; None if never."""
        position = self.position(i)
        return self._last[i] if position is None else position

    def moving(self, i: int) -> bool:
        """Whether it is elsewhere than half a second ago, by more than noise."""
        before = self._median(i, self.now - 2 * WINDOW_NS, self.now - WINDOW_NS)
        now = self.position(i)
        return before is not None and now is not None and bool(np.linalg.norm(now - before) > MOVING_M)


class Senses:
    """Newest samples.

    Attributes: objects. pinch: pose [7]. gripper: register, 0..255, or None where it was never heard of.
    """

    def __init__(self):
        self.objects = ObjectWatch()
        self.pinch: np.ndarray | None = None
        self.gripper: float | None = None
        self._register: deque = deque(maxlen=4)
        self._forces: deque = deque(maxlen=_TARE_SAMPLES)
        self._zero = np.zeros(3)
        self._push_n = 0.0

    def on_objects(self, stamp: int, poses) -> None:
        """poses: [3, 7]. stamp: ns."""
        self.objects.on_sample(stamp, poses)

    def on_pinch(self, stamp: int, pose) -> None:
        """pose: [7]."""
        self.pinch = np.asarray(pose, float)
        self.objects.at(stamp)

    def on_gripper(self, position: float) -> None:
        self.gripper = float(position)
        self._register.append(self.gripper)

    def on_wrench(self, force) -> None:
        """force: [3] N, at its native rate."""
        force = np.array(force, float)
        self._forces.append(force)
        self._push_n = max(self._push_n, float(np.linalg.norm(force - self._zero)))

    def tare(self) -> None:
        """What the sensor reads now is nought for `push_n`: offset, drift, what the fingers hold."""
        self._zero = np.mean(self._forces, axis=0) if self._forces else np.zeros(3)
        self._push_n = 0.0

    def push_n(self) -> float:
        """N, the largest change of the force against the tare since this was last asked."""
        push, self._push_n = self._push_n, 0.0
        return push

    @property
    def fingers_rest(self) -> bool:
        """Whether the gripper's register stands still."""
        r = self._register
        return len(r) == r.maxlen and max(r) - min(r) <= 1.0

    def forget_fingers(self) -> None:
        """They are about to move."""
        self._register.clear()

    @property
    def holding(self) -> bool:
        """Whether something is between the closed fingers; assumed where no gripper was heard of."""
        return self.gripper is None or self.gripper < EMPTY

    @property
    def wide(self) -> bool:
        return self.gripper is None or self.gripper < GRIPPER_CLOSED * 0.05
