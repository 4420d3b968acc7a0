# SPDX-License-Identifier: Apache-2.0
"""mujoco, as every module here imports it: without OpenGL.

mujoco loads the OpenGL of MUJOCO_GL when it is imported, and fails there in obscure ways if a library is missing.
Physics needs none; `chef_sim.gl` loads it when a camera asks.
"""

import os

_gl = os.environ.pop('MUJOCO_GL', None)
try:
    import mujoco
finally:
    if _gl is not None:
        os.environ['MUJOCO_GL'] = _gl

__all__ = ['mujoco']
