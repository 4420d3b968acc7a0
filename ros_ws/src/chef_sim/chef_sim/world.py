# SPDX-License-Identifier: Apache-2.0
"""The simulated cell as a device: takes velocities, advances in time, gives samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from chef_task.observation import PINCH_FROM_TCP

from chef_sim import cell, sensors
from chef_sim.engine import mujoco
from chef_sim.index import Index, index
from chef_sim.physics import preset
from chef_sim.placement import Placer
from chef_sim.scene import build_model
from chef_sim.streams import STREAMS

__all__ = ['COMMAND_AGE_NS', 'HOME', 'PINCH_FROM_TCP', 'STREAMS', 'World']

COMMAND_AGE_NS = 100_000_000
MAX_ADVANCE_NS = 10_000_000

# Joint angles, rad, with the pinch at (0.6, 0, 0.3) m, facing down, its rotation neutral.
HOME = np.array([0.10993572, -1.01855846, -0.63395962, 1.31151604, 0.32205835, 1.37936449, -0.33818816])

_WINDUP = np.array(cell.ARM_EFFORT_LIMITS) / cell.ARM_GAIN  # rad


class _Command:
    """The newest command of an actuator, and when it stops being obeyed."""

    def __init__(self, size: int):
        self.size = size
        self.clear()

    def clear(self) -> None:
        self.value = self._zero = np.zeros(self.size)
        self.expires_ns = -1

    def at(self, now_ns: int) -> np.ndarray:
        """What is obeyed at a time, [size]."""
        return self.value if self.expires_ns > now_ns else self._zero

    def set(self, value, stamp_ns: int, now_ns: int) -> None:
        value = np.atleast_1d(np.asarray(value, float))
        if value.shape != (self.size,) or not np.all(np.isfinite(value)):
            raise ValueError(f'a command must be {self.size} finite numbers, not {value.tolist()}')
        # a stamp from the future must not outlive the watchdog
        self.value, self.expires_ns = value, min(int(stamp_ns), now_ns) + COMMAND_AGE_NS


class World:
    """Arm, gripper, sensors and objects.

    Args:
      triplet: 1..5.
      physics: 'exact' or 'fast', see `chef_sim.physics`.
      seed: of the first placement of the objects.
      visuals: build the model with what only cameras see.
      start_ns: stamp of the start, ns.
    """

    def __init__(self, triplet: int = 1, physics: str = 'exact', seed: int = 0, visuals: bool = False,
                 start_ns: int = 0):
        self.physics = preset(physics)
        self._visuals = visuals
        self._models: dict[int, tuple[mujoco.MjModel, Index, Placer]] = {}
        self._start_ns = self._now_ns = int(start_ns)
        self._arm, self._gripper = _Command(7), _Command(1)
        self._samplers: dict[str, Callable[[], dict]] = {
            'joints': lambda: sensors.joints(self.data, self.index),
            'tcp': lambda: sensors.tcp(self.model, self.data, self.index),
            'gripper': lambda: sensors.gripper(self.data, self.index),
            'wrench': lambda: sensors.wrench(self.data, self.index),
            'objects': lambda: sensors.objects(self.data, self.index, self._now_ns),
            'render': lambda: {'qpos': self.data.qpos.tolist(), 'triplet': self.triplet},
        }
        self.triplet = 0
        self._use(triplet)
        self.set_arm(HOME)
        self.place(seed)

    @property
    def stamp_ns(self) -> int:
        """Now, in the world's time, ns."""
        return self._now_ns

    @property
    def pinch_position(self) -> np.ndarray:
        """Of the point between the fingertips, m, robot base frame, [3]."""
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.site_xpos[self.index.pinch].copy()

    def command_arm(self, velocity, stamp_ns: int) -> None:
        """Joint velocities [7], rad/s, limited to the joints' limits; obeyed until 100 ms after the stamp."""
        self._arm.set(velocity, stamp_ns, self._now_ns)

    def command_gripper(self, velocity: float, stamp_ns: int) -> None:
        """Gripper velocity, -1 opens .. 1 closes in a second; obeyed until 100 ms after the stamp."""
        self._gripper.set(velocity, stamp_ns, self._now_ns)

    def stop(self) -> None:
        """Forgets the commands: all velocities are zero until new ones come."""
        self._arm.clear()
        self._gripper.clear()

    def skip(self, duration_ns: int) -> None:
        """Lets time pass in which nothing moves, as when the computer was too slow."""
        self._now_ns += max(0, int(duration_ns))

    def advance(self, duration_ns: int) -> None:
        """Simulates `duration_ns`, a multiple of the physics step."""
        step = self.physics.timestep_ns
        if duration_ns < 0 or duration_ns % step:
            raise ValueError(f'cannot advance by {duration_ns} ns, not a multiple of {step} ns')
        end = self._now_ns + duration_ns
        while self._now_ns < end:
            until = min(end, self._now_ns + MAX_ADVANCE_NS)
            ctrl = self.data.ctrl
            ctrl[:7] = self._arm.at(self._now_ns)
            ctrl[7] = min(max(float(self._gripper.at(self._now_ns)[0]), -1.0), 1.0) * cell.GRIPPER_CLOSED
            for command in (self._arm, self._gripper):
                if command.expires_ns > self._now_ns:
                    until = min(until, command.expires_ns)
            steps = max(1, -(-(until - self._now_ns) // step))
            self._step(steps, last=self._now_ns + steps * step >= end)
            self._now_ns += steps * step

    def _step(self, steps: int, last: bool) -> None:
        # the sensors' values are only asked for after the last step, and cost a tenth
        bit = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
        option, ahead = self.model.opt, steps - 1 if last else steps
        if ahead:
            option.disableflags |= bit
            mujoco.mj_step(self.model, self.data, ahead)
            option.disableflags &= ~bit
        if last:
            mujoco.mj_step(self.model, self.data)
        self._limit_windup()

    def _limit_windup(self) -> None:
        # Past the angle at which the motor gives its limit, an integrator must not run on: a blocked joint
        # would otherwise leap by radians when it comes free. Does nothing below the limit.
        i, d = self.index, self.data
        held = d.qpos[i.arm_qpos] + d.qvel[i.arm_dof] * (cell.ARM_DAMPING / cell.ARM_GAIN)
        act = d.act[i.arm_act]
        np.minimum(act, held + _WINDUP, out=act)
        np.maximum(act, held - _WINDUP, out=act)

    def set_arm(self, q) -> None:
        """Puts the arm at rest at joint angles [7], rad, without moving there."""
        q = np.asarray(q, float)
        if q.shape != (7,) or not np.all(np.isfinite(q)):
            raise ValueError(f'a posture must be 7 finite angles, not {q.tolist()}')
        i, d = self.index, self.data
        d.qpos[i.arm_qpos], d.qvel[i.arm_dof], d.act[i.arm_act] = q, 0.0, q
        mujoco.mj_forward(self.model, d)

    def reset(self, stamp_ns: int | None = None) -> None:
        """Back to home, at rest, the gripper open and without commands; the objects stay.

        Time goes on, or is `stamp_ns` again, for owners whose stamps may go back.
        """
        self._now_ns = self._now_ns if stamp_ns is None else int(stamp_ns)
        poses = self.data.qpos[self.index.objects_qpos].copy()
        self.stop()
        self.data = self._placer.new_data()
        self.set_objects(poses)

    def place(self, seed: int) -> None:
        """Puts the objects at random places, at rest; the same places for the same seed.

        Time stands still, and neither arm nor gripper move.

        Raises:
          PlacementError: no place is free of the gripper, or objects do not come to rest.
        """
        if seed < 0:
            raise ValueError(f'a seed must not be negative, not {seed}')
        poses = self._placer.place(seed, self.data)
        i, d = self.index, self.data
        d.qpos[i.objects_qpos], d.qvel[i.objects_dof] = poses, 0.0
        d.qacc_warmstart[i.objects_dof] = 0.0
        mujoco.mj_forward(self.model, d)

    def set_objects(self, poses) -> None:
        """Puts the objects at rest at poses [3, 7] (x y z qw qx qy qz), for tests and for replays."""
        i, d = self.index, self.data
        d.qpos[i.objects_qpos], d.qvel[i.objects_dof] = np.asarray(poses, float).reshape(3, 7), 0.0
        mujoco.mj_forward(self.model, d)

    def set_triplet(self, triplet: int, seed: int) -> None:
        """Changes the objects and places them; the arm stays as it is."""
        before, old = self.data, self.triplet
        try:
            self._use(triplet)
            robot = slice(0, self.index.objects_qpos.min())
            dofs = slice(0, self.index.objects_dof.min())
            self.data.qpos[robot], self.data.qvel[dofs] = before.qpos[robot], before.qvel[dofs]
            self.data.act[:] = before.act
            self.place(seed)
        except Exception:
            if old != self.triplet:
                self._use(old)
            self.data = before
            raise

    def _use(self, triplet: int) -> None:
        if triplet not in self._models:
            model = build_model(triplet, self.physics.name, self._visuals)
            i = index(model)
            self._models[triplet] = (model, i, Placer(model, i, HOME))
        self.model, self.index, self._placer = self._models[triplet]
        self.data = self._placer.new_data()
        self.triplet = triplet

    def sample(self, stream: str) -> dict:
        """The newest sample of a stream, its arrays as lists; see ARCHITECTURE.md for units.

        Returns:
          {'stream': name, 'stamp': ns, ...fields}

        Raises:
          ValueError: there is no such stream.
        """
        if stream not in self._samplers:
            raise ValueError(f'stream {stream!r} does not exist, choose one of {", ".join(STREAMS)}')
        return {'stream': stream, 'stamp': self._now_ns, **self._samplers[stream]()}
