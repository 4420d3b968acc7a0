# SPDX-License-Identifier: Apache-2.0
"""Random places for the objects: dropped into the basket and settled, as the benchmark starts."""

from __future__ import annotations

import numpy as np

from chef_sim import cell
from chef_sim.engine import mujoco
from chef_sim.index import Index

ATTEMPTS = 20               # scenes tried for one seed
_DRAWS = 200                # poses tried for one object
_SETTLE_S = 3.0             # s, longest wait for the objects to come to rest
_LOOK_S = 0.1               # s, between two looks
_STILL_LOOKS = 2            # looks in a row between which they must not have moved
# Moved since the last look. Not a limit on velocity: with one contact a pair ('exact') objects that lie
# still tremble, and never fall below one.
_STILL_M, _STILL_RAD = 5e-4, 2e-2
_FLOOR_HALF_M = 0.25        # half the width of the basket's floor
_HIGHEST_M = 0.15           # of a settled object's centre: above it, it leans on something else
_STACKED_M = 0.03           # horizontal distance at which one object lies on another


class PlacementError(RuntimeError):
    """The objects could not be placed."""


def compensate_gravity(model: mujoco.MjModel, data: mujoco.MjData, bodies: np.ndarray) -> None:
    """Holds the weight of `bodies` with outer forces at their centres of mass.

    Outer forces, not mujoco's own compensation, since sensors then feel no weight either: the force sensor
    reads as one that was tared and corrected for its tool in every posture.
    """
    data.xfrc_applied[bodies, :3] = -model.body_mass[bodies, None] * model.opt.gravity


def _in_order(positions: np.ndarray) -> bool:
    """Whether objects at rest at positions [3, 3] lie on the floor, none on another."""
    inside = np.abs(positions[:, :2] - cell.BASKET_ORIGIN[:2]).max() < _FLOOR_HALF_M
    d = positions[[0, 0, 1]] - positions[[1, 2, 2]]
    stacked = (np.linalg.norm(d[:, :2], axis=1) < _STACKED_M) & (np.abs(d[:, 2]) > _STACKED_M / 2)
    return bool(inside and (positions[:, 2] < _HIGHEST_M).all() and not stacked.any())


class Placer:
    """Finds places for the three objects of a model.

    Works on data of its own, with the arm out of the way at `home`: a seed gives the same places whatever
    the real arm does, unless that touches them, in which case the next of the seed's scenes is taken.
    """

    def __init__(self, model: mujoco.MjModel, index: Index, home: np.ndarray):
        self._model, self._index, self._home = model, index, home
        self._data = self.new_data()

    def new_data(self) -> mujoco.MjData:
        """Fresh data with the arm at home and held against gravity."""
        data = mujoco.MjData(self._model)
        self._reset(data)
        return data

    def _reset(self, data: mujoco.MjData) -> None:
        mujoco.mj_resetData(self._model, data)
        compensate_gravity(self._model, data, self._index.robot_bodies)
        data.qpos[self._index.arm_qpos] = data.act[self._index.arm_act] = self._home

    def place(self, seed: int, real: mujoco.MjData) -> np.ndarray:
        """Poses [3, 7] of the objects at rest, clear of the arm as it is in `real`.

        Raises:
          PlacementError: all attempts failed.
        """
        rng = np.random.default_rng(int(seed))
        blocked = restless = 0
        for _ in range(ATTEMPTS):
            self._reset(self._data)
            if not self._drop(rng) or not self._settle():
                restless += 1
            elif self._touched(real):
                blocked += 1
            else:
                return self._data.qpos[self._index.objects_qpos].copy()
        raise PlacementError(
            f'objects could not be placed for seed {seed}: of {ATTEMPTS} attempts {blocked} touched the arm '
            f'and {restless} did not come to rest in the basket')

    def _drop(self, rng: np.random.Generator) -> bool:
        d, i = self._data, self._index
        for k, slots in enumerate(i.objects_qpos):  # out of the way until it is their turn
            d.qpos[slots] = [0.0, -2.0 - k, 1.0, 1.0, 0.0, 0.0, 0.0]
        for slots in i.objects_qpos:
            for _ in range(_DRAWS):
                quat = rng.normal(size=4)
                d.qpos[slots[:3]] = rng.uniform(cell.PLACE_LOW, cell.PLACE_HIGH)
                d.qpos[slots[3:]] = quat / np.linalg.norm(quat)
                if not self._contacts(d, i.object_geom).size:
                    break
            else:
                return False
        return True

    def _contacts(self, data: mujoco.MjData, mask: np.ndarray) -> np.ndarray:
        """Pairs of touching geoms [N, 2], at least one of the pair in `mask`."""
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_collision(self._model, data)
        pairs = data.contact.geom[data.contact.dist <= 0.0]
        return pairs[mask[pairs].any(axis=1)]

    def _settle(self) -> bool:
        m, d, i = self._model, self._data, self._index
        steps = round(_LOOK_S / m.opt.timestep)
        before, still = d.qpos[i.objects_qpos].copy(), 0
        for _ in range(round(_SETTLE_S / _LOOK_S)):
            mujoco.mj_step(m, d, steps)
            now = d.qpos[i.objects_qpos].copy()
            moved = np.linalg.norm(now[:, :3] - before[:, :3], axis=1)
            turned = 2 * np.arccos(np.minimum(np.abs((now[:, 3:] * before[:, 3:]).sum(axis=1)), 1.0))
            still = still + 1 if moved.max() < _STILL_M and turned.max() < _STILL_RAD else 0
            before = now
            if still == _STILL_LOOKS:
                return _in_order(now[:, :3])
        return False

    def _touched(self, real: mujoco.MjData) -> bool:
        d, i = self._data, self._index
        robot = slice(0, i.objects_qpos.min())
        d.qpos[robot] = real.qpos[robot]
        pairs = self._contacts(d, i.object_geom)
        return bool(i.robot_geom[pairs].any())
