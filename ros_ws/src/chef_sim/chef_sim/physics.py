# SPDX-License-Identifier: Apache-2.0
"""How the physics is computed: two presets, 'exact' and 'fast'."""

from __future__ import annotations

from dataclasses import dataclass

from chef_sim.engine import mujoco


@dataclass(frozen=True)
class Physics:
    """Numerical settings of the simulation.

    name: the preset's name.
    timestep_ns: one physics step, ns; divides 10 ms.
    integrator: of mujoco.
    noslip_iterations: of the solver that removes slip between elliptic cones.
    multiple_contacts: several contact points per pair of convex bodies (one without).
    hull_vertices: limit of vertices of a collision hull, -1 for none.
    arm_self_collision: whether links of the arm can touch one another.
    sleep: whether objects that lie still are left out until something touches them.
    """

    name: str
    timestep_ns: int
    integrator: mujoco.mjtIntegrator
    noslip_iterations: int
    multiple_contacts: bool
    hull_vertices: int
    arm_self_collision: bool
    sleep: bool

    def apply(self, option) -> None:
        """Writes the settings to the `option` of a spec or of a model."""
        option.timestep = self.timestep_ns * 1e-9
        option.integrator = self.integrator
        option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        option.noslip_iterations = self.noslip_iterations
        option.noslip_tolerance = 0.0
        option.ccd_iterations = 50
        bit = int(mujoco.mjtDisableBit.mjDSBL_MULTICCD)
        flags = int(option.disableflags)
        option.disableflags = flags & ~bit if self.multiple_contacts else flags | bit
        bit, flags = int(mujoco.mjtEnableBit.mjENBL_SLEEP), int(option.enableflags)
        option.enableflags = flags | bit if self.sleep else flags & ~bit


PRESETS: dict[str, Physics] = {
    p.name: p
    for p in (
        # The public benchmark's settings. mujoco 4 makes several contacts a pair, 3.3.3, which the public
        # benchmark runs on, one: switched off here so that contacts number the same.
        Physics('exact', 500_000, mujoco.mjtIntegrator.mjINT_EULER, 5, False, -1, True, False),
        # About ten times faster. Several contacts a pair do more against rolling and slipping of what is
        # grasped than no-slip iterations do, which cost most of the time of 'exact'. With one contact a pair objects
        # that lie tremble and creep by millimetres in seconds, so only here are they let sleep.
        Physics('fast', 2_500_000, mujoco.mjtIntegrator.mjINT_IMPLICITFAST, 0, True, 64, False, True),
    )
}


def preset(name: str) -> Physics:
    """The preset of that name; ValueError for one that does not exist."""
    if name not in PRESETS:
        raise ValueError(f'physics {name!r} does not exist, choose one of {", ".join(PRESETS)}')
    return PRESETS[name]
