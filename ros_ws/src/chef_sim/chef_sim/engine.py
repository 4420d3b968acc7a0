# SPDX-License-Identifier: Apache-2.0
"""MuJoCo, imported without OpenGL: `from chef_sim.engine import mujoco`.

By itself mujoco loads the OpenGL of MUJOCO_GL, or a window library without it, when it is imported, and fails there in
obscure ways if a library is missing. Physics needs none; `chef_sim.gl` loads it when a camera asks. Not in the
package's __init__: the drivers of the simulated cell, a process each, talk to a world without being one, and start a
quarter of a second sooner.
"""

import os

_gl = os.environ.get('MUJOCO_GL')
os.environ['MUJOCO_GL'] = 'disable'
try:
    import mujoco
finally:
    if _gl is None:
        del os.environ['MUJOCO_GL']
    else:
        os.environ['MUJOCO_GL'] = _gl

__all__ = ['mujoco']
