# SPDX-License-Identifier: Apache-2.0
"""Pictures of a simulated episode that was kept without any: the same scene and actions once more, seen from outside."""

from __future__ import annotations

import dataclasses

import numpy as np

from chef_control.simulated_cell import SimulatedCell
from chef_sim.render import Renderer
from chef_task.cell import CellConfig
from chef_task.episode_file import EpisodeFile
from chef_task.errors import OneLineError
from chef_task.limits import Limits


class NotTheSame(OneLineError):
    """The episode does not come out as it was: other software, or another cell."""


def frames(config: CellConfig, episode: EpisodeFile, count: int, width: int = 240, height: int = 180,
           camera: str = 'basket_front_left') -> list[np.ndarray]:
    """`count` pictures at equal distances of time, uint8 RGB [height, width, 3].

    Args:
      config: of the cell; its limits are those that the episode had.
      camera: as `Renderer.render`.

    Raises:
      NotTheSame: another reward or another end came of it.
    """
    record = episode.record
    about, steps = record.metadata, episode.steps()
    wanted = {round(k * record.steps / max(1, count - 1)) for k in range(count)}
    seen: list[dict] = []
    same = [0]

    def on_step(step, features) -> None:
        same[0] += np.array_equal(step.rewards, steps[step.index].rewards)
        if step.index in wanted:
            seen.append(cell.world.sample('render'))
    cell = SimulatedCell(dataclasses.replace(config, limits=Limits.from_dict(about['limits'])), physics=about['physics'],
                         triplet=record.triplet, reset=about['reset'])
    cell.reset(record.triplet, record.seed)
    cell.run(record.episode_id, about['max_steps'], _Again(steps), on_step)
    if same[0] != record.steps + 1:
        raise NotTheSame(f'{episode.path}: came out otherwise when it was simulated once more')
    with Renderer(record.triplet, width, height) as renderer:
        return [renderer.render(camera, sample) for sample in seen]


class _Again:
    """Acts as an episode did."""

    def __init__(self, steps):
        self.version, self._steps = 'replayed', iter(steps)

    def start(self) -> None:
        pass

    def act(self, features) -> tuple[np.ndarray, int]:
        step = next(self._steps)
        return step.action, step.task

    def reward(self, value: float) -> None:
        pass
