# SPDX-License-Identifier: Apache-2.0
"""Manifests: what a folder in a storage holds, to the byte."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1      # of a storage and its manifests
NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.=,+-]{0,199}')      # of a cell, a folder, a file
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What a folder in the storage holds.

    Args:
      files: path within the folder to its size in bytes and its SHA-256.
      about: what the writer tells of it, any JSON.
    """

    files: Mapping[str, tuple[int, str]]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for size, _ in self.files.values())

    def encode(self) -> bytes:
        """As JSON; `decode` reads it back."""
        files = {name: {'size': size, 'sha256': sha} for name, (size, sha) in sorted(self.files.items())}
        return (json.dumps({'format': FORMAT, 'files': files, 'about': dict(self.about)}, indent=1) + '\n').encode()

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """ValueError if that is no manifest, or names files outside of its folder."""
        try:
            values = json.loads(data.decode())
        except (ValueError, RecursionError):
            raise ValueError('not JSON') from None
        if not isinstance(values, dict) or values.get('format') != FORMAT:
            raise ValueError(f'not a manifest of format {FORMAT}')
        files, about = values.get('files'), values.get('about')
        if not isinstance(files, dict) or not files or not isinstance(about, dict):
            raise ValueError('lacks files or about')
        found = {}
        for path, entry in files.items():
            if not all(NAME.fullmatch(part) for part in path.split('/')):
                raise ValueError(f'{path!r} cannot be the name of a file')
            size, sha = (entry.get('size'), entry.get('sha256')) if isinstance(entry, dict) else (None, None)
            if type(size) is not int or not 0 <= size < 2**63 or not re.fullmatch('[0-9a-f]{64}', f'{sha}'):
                raise ValueError(f'{path} lacks a size or a SHA-256')
            found[path] = (size, sha)
        return cls(found, about)

    @classmethod
    def of(cls, folder: Path, about: Mapping[str, Any] | None = None) -> Manifest:
        """Of a local folder; OSError if it cannot be read, ValueError if it has no file or one of another kind."""
        files = {}
        for path in sorted(folder.rglob('*')):
            if path.is_dir() and not path.is_symlink():
                continue
            if not path.is_file() or path.is_symlink():
                raise ValueError(f'{path} is no ordinary file')
            files[path.relative_to(folder).as_posix()] = (path.stat().st_size, sha256(path))
        return cls.decode(cls(files, about or {}).encode())     # what cannot be read back is not written


def sha256(path: Path) -> str:
    """Of a file, hexadecimal."""
    whole = hashlib.sha256()
    with open(path, 'rb') as f:
        while chunk := f.read(_CHUNK):
            whole.update(chunk)
    return whole.hexdigest()
