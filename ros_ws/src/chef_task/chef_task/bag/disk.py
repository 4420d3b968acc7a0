# SPDX-License-Identifier: Apache-2.0
"""What bags ask of a disk: free space, that what was written stays, and who may write.

Locks are flock's: the kernel drops them with the process, however it ends, so none is ever left behind.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from chef_task.bag.errors import BagError


def free_bytes(path: Path | str) -> int:
    """Bytes that may still be written at `path`, which need not exist yet; BagError if it cannot be told."""
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError as e:
        raise BagError(f'{path}: free space unknown: {e.strerror}') from e


def fsync_folder(path: Path) -> None:
    """Puts the names in a folder on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, each with its name safely in the one above."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def write_new(path: Path, text: str) -> None:
    """Writes a file that was not there, and syncs it."""
    with open(path, 'x', encoding='utf8') as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())


def lock_writing(fd: int) -> bool:
    """Marks an open file as being written, until its last descriptor is closed; False if somebody else has."""
    return _lock(fd, fcntl.LOCK_EX)


def lock_reading(fd: int) -> bool:
    """Keeps writers away from an open file; False if one is at work."""
    return _lock(fd, fcntl.LOCK_SH)


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class FolderLock:
    """The right of one process to record into a folder, until `release` or the process's end.

    Raises:
      BagError: another process has it, or the folder cannot be made or written.
    """

    NAME = '.lock'

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        try:
            make_folder(folder)
            self._fd = os.open(folder / self.NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise BagError(f'{folder}: cannot be recorded into: {e.strerror}') from e
        try:
            if not lock_writing(self._fd):
                owner = os.pread(self._fd, 20, 0).decode(errors='replace').strip()
                raise BagError(f'{folder}: another recorder (process {owner or "unknown"}) records into it')
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f'{os.getpid()}\n'.encode(), 0)     # only to be told to others
        except OSError as e:
            os.close(self._fd)
            raise BagError(f'{folder}: cannot be locked: {e.strerror}') from e
        except BagError:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Lets others in; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
