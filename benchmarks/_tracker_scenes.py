# SPDX-License-Identifier: Apache-2.0
"""Scenes of the simulated cell for the tracker's benchmark: as episodes begin, as they go, and heaps of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chef_control.simulated_cell import CellError, SimulatedCell
from chef_learning.acting import Acting
from chef_learning.scripted import ScriptedPolicy
from chef_sim.world import World

KINDS = {'placed': 0.3, 'episode': 0.5, 'heap': 0.2}    # share of each
_STATES = 20            # taken of one episode
_HEAP_M = 0.03          # standard deviation of the objects' places in a heap, either way


@dataclass(frozen=True)
class Scene:
    """sample: of the stream `render`; poses: [3, 7], the truth; pinch: [3]; gripper: register; grasp: flag."""

    kind: str
    triplet: int
    sample: dict
    poses: np.ndarray
    pinch: np.ndarray
    gripper: float
    grasp: int


def _scene(kind: str, world: World) -> Scene:
    gripper = world.sample('gripper')
    return Scene(kind, world.triplet, world.sample('render'), np.array(world.sample('objects')['poses']),
                 world.pinch_position, float(np.ravel(gripper['position'])[0]), int(np.ravel(gripper['grasp'])[0]))


def scenes(cell: SimulatedCell, count: int, seed: int, triplets=(1, 2, 3, 4, 5)) -> Iterator[Scene]:
    """`count` scenes of each triplet, of all kinds."""
    rng = np.random.default_rng(seed)
    for triplet in triplets:
        wanted = {k: round(count * share) for k, share in KINDS.items()}
        wanted['episode'] += count - sum(wanted.values())
        for kind, n in wanted.items():
            while n > 0:
                try:
                    cell.reset(triplet, int(rng.integers(2**31)))
                except CellError:
                    continue
                if kind == 'episode':
                    found = _episode(cell, rng, min(n, _STATES))
                else:
                    if kind == 'heap':
                        _heap(cell.world, rng)
                    found = [_scene(kind, cell.world)]
                n -= len(found)
                yield from found


def _episode(cell: SimulatedCell, rng: np.random.Generator, count: int) -> list[Scene]:
    """Random moments of one episode of the scripted policy."""
    wanted = set(rng.choice(400, count, replace=False).tolist())
    out: list[Scene] = []
    steps = iter(range(10**6))
    cell.run('tracker', 400, Acting(ScriptedPolicy(), 'state'),
             lambda step, features: out.append(_scene('episode', cell.world)) if next(steps) in wanted else None)
    return out


def _heap(world: World, rng: np.random.Generator) -> None:
    """The objects fall one upon the other, about one place."""
    poses = np.zeros((3, 7))
    middle = rng.uniform([0.52, -0.08], [0.68, 0.08])
    for k, i in enumerate(rng.permutation(3)):
        poses[i, :2] = np.clip(middle + rng.normal(0.0, _HEAP_M, 2), [0.48, -0.12], [0.72, 0.12])
        poses[i, 2] = 0.11 + 0.10 * k
        quat = rng.normal(size=4)
        poses[i, 3:] = quat / np.linalg.norm(quat)
    world.set_objects(poses)
    world.advance(1_500_000_000)
