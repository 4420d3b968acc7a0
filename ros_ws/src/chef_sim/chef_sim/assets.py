# SPDX-License-Identifier: Apache-2.0
"""Where the models' files are: in the dm-robotics wheels, of which nothing is imported."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from pathlib import Path

from chef_task.triplets import triplet as triplet_shapes

_MOMA = 'dm-robotics-moma'
_MANIPULATION = 'dm-robotics-manipulation'
_VENDOR = 'dm_robotics/moma/models/vendor'

_FILES = {
    'arm': (_MOMA, f'{_VENDOR}/rethink/sawyer_description/mjcf/sawyer.xml'),
    'wrist_sensor': (_MOMA, 'dm_robotics/moma/models/end_effectors/wrist_sensors/robotiq_fts300.xml'),
    'gripper': (_MOMA, f'{_VENDOR}/robotiq_beta_robots/mujoco/robotiq_2f85_v2.xml'),
    'basket': (_MANIPULATION, 'dm_robotics/manipulation/standard_cell/rgb_basket_assets/rgb_basket.xml'),
}
_OBJECTS = 'dm_robotics/manipulation/props/rgb_objects/assets/rgb_v1.3/meshes/test_triplets'


class AssetsMissing(FileNotFoundError):
    """The wheels that hold the models are not installed, or lack a file."""


def _install_line() -> str:
    return f'install them with: pip install --no-deps {_MOMA}==0.10.0 {_MANIPULATION}==0.10.0'


@functools.lru_cache(maxsize=None)
def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise AssetsMissing(f"the robot's models are missing: {name} is not installed; "
                            f'{_install_line()}') from None


def _locate(distribution: str, relative: str) -> Path:
    path = Path(_distribution(distribution).locate_file(relative))
    if not path.exists():
        raise AssetsMissing(f"the robot's models are missing: {distribution} has no {relative}; "
                            f'{_install_line()}')
    return path.resolve()


def model_file(name: str) -> Path:
    """The MJCF file of 'arm', 'wrist_sensor', 'gripper' or 'basket'."""
    return _locate(*_FILES[name])


def object_files(triplet: int) -> tuple[Path, Path, Path]:
    """The meshes (STL, metres) of a triplet's red, green and blue object.

    Raises:
      ValueError: there is no such triplet.
    """
    folder = _locate(_MANIPULATION, _OBJECTS)
    files = []
    for shape in triplet_shapes(triplet):
        found = sorted(folder.glob(f'{shape}_*.stl'))
        if len(found) != 1:
            raise AssetsMissing(f"the objects' meshes are missing: {_MANIPULATION} has {len(found)} "
                                f'files for shape {shape!r}; {_install_line()}')
        files.append(found[0])
    return tuple(files)


def assets_version() -> str:
    """Versions of the wheels, for keys of caches and for records."""
    return ' '.join(f'{n}-{_distribution(n).version}' for n in (_MOMA, _MANIPULATION))


def cache_dir() -> Path:
    """Where derived files are kept: `$CHEF_CACHE`, else `chef` in the user's cache folder (XDG)."""
    chosen = os.environ.get('CHEF_CACHE')
    if chosen:
        return Path(chosen)
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path.home() / '.cache') / 'chef'
