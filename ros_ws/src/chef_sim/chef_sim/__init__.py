# SPDX-License-Identifier: Apache-2.0
"""The simulated cell: scene, physics, cameras and the device server, with no ROS inside."""

import os as _os

__version__ = '0.1.0'

# mujoco loads the OpenGL of MUJOCO_GL when it is imported, and fails there in obscure ways if a library is
# missing. Physics needs none, so it is imported without; `chef_sim.gl` loads it when a camera asks.
_gl = _os.environ.pop('MUJOCO_GL', None)
try:
    import mujoco as _mujoco  # noqa: F401
finally:
    if _gl is not None:
        _os.environ['MUJOCO_GL'] = _gl
