# SPDX-License-Identifier: Apache-2.0
"""Samples of a simulated world, as the graph's messages give them once decoded, but without messages."""

from __future__ import annotations

import numpy as np

from chef_sim.world import World
from chef_task.messages import Sample
from chef_task.spaces import CAMERAS


class Samples:
    """What the sensors of a world read now.

    Equal bit for bit to what goes through JSON, ROS messages and `messages.decode`.
    """

    def __init__(self, world: World, observation: str):
        self._world, self._pixels = world, observation == 'pixels'
        self._renderer = None

    def tcp_pose(self) -> Sample:
        return {'pose': np.array(self._world.sample('tcp')['pose'])}

    def of_tick(self) -> dict[str, Sample]:
        """Stream to sample, of the streams that a tick names and that have its rate."""
        gripper, tcp = self._world.sample('gripper'), self._world.sample('tcp')
        out = {
            'tcp_pose': {'pose': np.array(tcp['pose'])},
            'tcp_twist': {'twist': np.array(tcp['twist'])},
            # the message has the velocity in single precision
            'gripper': {'position': np.array([gripper['position']], float),
                        'velocity': np.array([np.float32(gripper['velocity'])], float),
                        'grasp': np.array([gripper['grasp']], float)},
            'objects': {'poses': np.array(self._world.sample('objects')['poses'])},
        }
        if self._pixels:
            out |= self._images()
        return out

    def _images(self) -> dict[str, Sample]:
        if self._renderer is None:      # the GL context belongs to the thread that uses it
            from chef_sim.render import Renderer
            self._renderer = Renderer(triplet=self._world.triplet)
        state = self._world.sample('render')
        return {c: {'image': self._renderer.render(c, state)} for c in CAMERAS}
