# SPDX-License-Identifier: Apache-2.0
"""Any robot's joint states as samples of the arm: by name, in the cell's order, not more often than asked for. No ROS."""

from __future__ import annotations

from collections.abc import Sequence


class JointStates:
    """Takes what messages of type sensor_msgs/JointState hold.

    Args:
      joints: names of the arm's joints, in the order of the samples.
      effort: whether the arm tells efforts; without, they are told as 0.
      rate_hz: samples that would come faster are left out.
    """

    def __init__(self, joints: Sequence[str], effort: bool, rate_hz: float):
        self._joints, self._effort = list(joints), effort
        self._period_ns = int(1e9 / rate_hz)
        self._due_ns = 0

    def sample(self, names: Sequence[str], position: Sequence[float], velocity: Sequence[float],
               effort: Sequence[float], stamp_ns: int) -> dict | None:
        """The sample of stream 'joints'; None if there is none, as it comes too early or is of other joints.

        Raises:
          ValueError: the arm's joints are told, but incompletely.
        """
        index = {name: i for i, name in enumerate(names)}
        if not all(j in index for j in self._joints):
            if any(j in index for j in self._joints):
                missing = next(j for j in self._joints if j not in index)
                raise ValueError(f'joint states of the arm are without {missing}')
            return None
        for what, values in (('positions', position), ('velocities', velocity)) + (('efforts', effort),) * self._effort:
            if len(values) != len(names):
                hint = ': set effort: false' if what == 'efforts' else ''
                raise ValueError(f'{len(values)} {what} come with {len(names)} joints{hint}')
        # a tenth of a period early is in time, and long before it means that a clock has jumped back
        if self._period_ns // 10 < self._due_ns - stamp_ns <= 2 * self._period_ns:
            return None
        # on a grid, as long as samples come faster; from now on where they do not
        late = abs(stamp_ns - self._due_ns) > self._period_ns
        self._due_ns = (stamp_ns if late else self._due_ns) + self._period_ns
        order = [index[j] for j in self._joints]
        return {'stream': 'joints', 'stamp': stamp_ns,
                'position': [float(position[i]) for i in order], 'velocity': [float(velocity[i]) for i in order],
                'effort': [float(effort[i]) if self._effort else 0.0 for i in order]}
