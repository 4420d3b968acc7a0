# SPDX-License-Identifier: Apache-2.0
"""What killed nodes leave behind of Fast DDS in shared memory, taken away before it does harm.

A node that is killed leaves half a megabyte, and ports that it may have held locked. Two nodes of a graph were seen to
hang for ten minutes within the making of the node, in a domain where others had been killed; eProsima/Fast-DDS issue 1144
tells of the same and of that cause, which we have not proved. Ports are numbered by ROS domain, so those of a domain in which
nobody is are nobody's. A segment belongs to the process that holds the file lock beside it, as `fastdds shm clean` has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path

FOLDER = Path("/dev/shm")
YOUNG_S = 60.0      # a segment is made before it is locked
_PORT = re.compile(r"(?:sem\.)?fastrtps_port(\d+)(?:_el|_mutex)?")
_SEGMENT = re.compile(r"fastrtps_[0-9a-f]{16}")


def sweep_ports(ports: range, folder: Path = FOLDER) -> int:
    """Removes the files of ports that nobody uses; how many there were."""
    return sum(_remove(folder / name) for name in _names(folder)
               if (found := _PORT.fullmatch(name)) and int(found[1]) in ports)


def sweep_segments(folder: Path = FOLDER, young_s: float = YOUNG_S) -> int:
    """Removes the files of segments whose owner is dead; how many there were."""
    names, count, now = _names(folder), 0, time.time()
    for name in names:
        if _SEGMENT.fullmatch(name) and f"{name}_el" in names and _is_dead(folder / f"{name}_el", now - young_s):
            count += _remove(folder / name) + _remove(folder / f"{name}_el")
    return count


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:     # not this system, or not this transport
        return set()


def _is_dead(lock: Path, before: float) -> bool:
    """Whether nobody holds a lock file of ours that is older than that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            about = os.fstat(descriptor)
            if about.st_uid != os.getuid() or about.st_mtime > before:
                return False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(descriptor)
    return False


def _remove(path: Path) -> int:
    try:
        path.unlink()
        return 1
    except OSError:     # another user's, or somebody else was faster
        return 0
