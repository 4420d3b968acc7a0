# SPDX-License-Identifier: Apache-2.0
"""Meshes prepared once: convex hulls for contacts, decimated surfaces for pictures.

The wheels' meshes have 260,000 faces, a third of them inside one flange of the force sensor. Physics only
uses their convex hulls and pictures of 128x128 show no difference above some hundred faces a part, so both
are computed once and kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chef_sim import assets

# Faces left of a mesh, for cameras and for pictures that people look at; smaller meshes stay as they are.
VISUAL_FACES, FINE_FACES = 900, 20_000
# Detail smaller than this is dropped where a mesh resists, m.
_GRID_M = 0.003
# Part of the cache's key: raise it when the preparation below changes.
_FORMAT = 1


@dataclass(frozen=True)
class Mesh:
    """hull: points [H, 3] on the convex hull; vertices [V, 3] and faces [F, 3] of the drawn surface; m."""

    hull: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray


def read_stl(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32[V, 3], merged where equal, and faces int32[F, 3] of a binary STL file."""
    data = path.read_bytes()
    count = int(np.frombuffer(data, '<u4', 1, 80)[0]) if len(data) >= 84 else -1
    if len(data) < 84 + 50 * count or count < 1:
        raise ValueError(f'{path} is not a binary STL file')
    records = np.frombuffer(data, np.dtype([('n', '<f4', 3), ('v', '<f4', (3, 3)), ('a', '<u2')]), count, 84)
    return merge(np.ascontiguousarray(records['v']).reshape(-1, 3),
                 np.arange(3 * count, dtype=np.int32).reshape(-1, 3))


def merge(vertices: np.ndarray, faces: np.ndarray, grid: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The surface with equal vertices merged, those equal on a `grid` if one is given, and no empty faces."""
    key = np.zeros(len(vertices), np.int64)
    for column in (np.round(vertices / grid) if grid else vertices).T:
        values, rank = np.unique(column, return_inverse=True)
        key = key * len(values) + rank
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    faces = index[faces].astype(np.int32)
    a, b, c = faces.T
    return vertices[first], faces[(a != b) & (b != c) & (a != c)]


def prepare(path: Path, scale: float, target: int = VISUAL_FACES) -> Mesh:
    """Hull and surface of about `target` faces of one STL file; `scale` turns its units into metres."""
    import fast_simplification
    from scipy.spatial import ConvexHull

    vertices, faces = read_stl(path)
    vertices = vertices * np.float32(scale)
    hull = vertices[np.sort(ConvexHull(vertices.astype(float)).vertices)]
    if len(faces) > target:
        vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target)
        if len(faces) > 2 * target:  # screw threads and the like, which resist
            vertices, faces = merge(vertices, faces, _GRID_M)
        if len(faces) > 2 * target:
            vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target)
        used, index = np.unique(faces, return_inverse=True)
        vertices, faces = vertices[used], index.reshape(-1, 3)
    return Mesh(hull, vertices.astype(np.float32), faces.astype(np.int32))


def _key(sources: dict[str, tuple[Path, float]], target: int) -> str:
    parts = [str(_FORMAT), str(target), assets.assets_version()]
    parts += [f'{name} {path.name} {path.stat().st_size} {scale}'
              for name, (path, scale) in sorted(sources.items())]
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:16]


def _load(path: Path, names) -> dict[str, Mesh] | None:
    try:
        with np.load(path, allow_pickle=False) as f:
            return {n: Mesh(*(f[f'{n}.{k}'] for k in ('hull', 'vertices', 'faces'))) for n in names}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None  # absent or torn: prepared again


def _store(path: Path, meshes: dict[str, Mesh]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix='.tmp')
        try:
            with os.fdopen(handle, 'wb') as f:
                np.savez(f, **{f'{n}.{k}': getattr(m, k) for n, m in meshes.items()
                               for k in ('hull', 'vertices', 'faces')})
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as e:
        print(f'chef_sim: cannot keep the prepared meshes in {path.parent} ({e.strerror}); '
              'set CHEF_CACHE to a writable folder to save some seconds a start', file=sys.stderr)


def load_all(sources: dict[str, tuple[Path, float]], target: int = VISUAL_FACES) -> dict[str, Mesh]:
    """The prepared meshes by name, from the cache or made now.

    Args:
      sources: name to STL file and the factor that turns its units into metres.
      target: faces to leave of each for drawing.
    """
    path = assets.cache_dir() / f'meshes-{_key(sources, target)}.npz'
    meshes = _load(path, sources)
    if meshes is None:
        print(f'chef_sim: preparing {len(sources)} meshes, once, for {path}', file=sys.stderr)
        meshes = {name: prepare(*source, target) for name, source in sources.items()}
        _store(path, meshes)
    return meshes


def write_stl(path: Path, mesh: Mesh) -> None:
    """Writes the drawn surface as binary STL, in metres."""
    corners = mesh.vertices[mesh.faces].astype('<f4')
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    records = np.zeros(len(corners), np.dtype([('n', '<f4', 3), ('v', '<f4', (3, 3)), ('a', '<u2')]))
    records['n'], records['v'] = normals, corners
    path.write_bytes(bytes(80) + np.uint32(len(corners)).astype('<u4').tobytes() + records.tobytes())
