# SPDX-License-Identifier: Apache-2.0
"""An off-screen OpenGL context: EGL, else OSMesa, else one clear error."""

from __future__ import annotations

import os
import sys

from chef_sim.engine import mujoco  # noqa: F401  (before any of the imports below)

# Mesa's software rasteriser reads this when it loads: a picture of 128x128 is done as soon by one thread,
# and the other cores belong to physics and learning.
os.environ.setdefault('LP_NUM_THREADS', '1')

BACKENDS = ('egl', 'osmesa')
_NEED = ('install the Debian packages libegl1 libegl-mesa0 libgl1-mesa-dri (EGL), or libosmesa6 (OSMesa)')


class NoGL(RuntimeError):
    """No off-screen OpenGL works on this computer."""


def _create(backend: str, width: int, height: int):
    if backend == 'egl':
        from mujoco.egl import GLContext
    else:
        from mujoco.osmesa import GLContext
    context = GLContext(width, height)
    context.make_current()
    return context


def _forget(backend: str) -> None:
    # a failed attempt leaves its platform chosen and its modules half loaded
    os.environ.pop('PYOPENGL_PLATFORM', None)
    for name in [n for n in sys.modules if n == 'OpenGL' or n.startswith(('OpenGL.', f'mujoco.{backend}'))]:
        del sys.modules[name]


def create_context(width: int, height: int):
    """A current context for off-screen drawing; `MUJOCO_GL` set to egl or osmesa picks the backend.

    Raises:
      NoGL: none works; the message names the packages to install.
    """
    chosen = os.environ.get('MUJOCO_GL', '').lower()
    if chosen and chosen not in BACKENDS:
        raise NoGL(f'MUJOCO_GL is {chosen!r}, but cameras need off-screen drawing: set it to egl or osmesa, '
                   'or unset it')
    failures = []
    for backend in (chosen,) if chosen else BACKENDS:
        try:
            return _create(backend, width, height)
        except Exception as e:  # whatever the bindings raise for a missing library: None has no attribute...
            failures.append(f'{backend}: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ""}')
            _forget(backend)
    raise NoGL(f'no off-screen OpenGL works here ({"; ".join(failures)}): {_NEED}')
