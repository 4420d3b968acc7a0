# SPDX-License-Identifier: Apache-2.0
"""A ROS domain of its own for each graph, so that two graphs on one machine do not mix."""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path

from chef_bringup import shared_memory

# DDS: domain d listens on UDP ports 7400 + 250 d and up; 101 is the last one below Linux's ephemeral ports.
_FIRST_PORT, _PORTS = 7400, 250
_DOMAINS = range(1, 102)
# Any of them set: the user has chosen Fast DDS' transports.
_TRANSPORTS_CHOSEN = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def busy(tables: tuple[str, ...] = ("/proc/net/udp", "/proc/net/udp6")) -> set[int]:
    """Domains whose ports are in use on this machine."""
    found = set()
    for table in tables:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            port = int(line.split()[1].rpartition(":")[2], 16)
            found.add((port - _FIRST_PORT) // _PORTS)
    return found


class Domain:
    """A free domain, held by a lock until `release` or the end of the process.

    Args:
      avoid: not this one, even if it looks free: a cell on another machine may be there.
    """

    def __init__(self, avoid: str = "") -> None:
        taken = busy()
        # Not always the lowest: another user's graph, whose lock we cannot see, would choose that too.
        for number in random.sample(list(_DOMAINS), len(_DOMAINS)):
            if number in taken or str(number) == avoid:
                continue
            path = Path(tempfile.gettempdir()) / f"chef-domain-{os.getuid()}-{number}.lock"
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self.number, self._descriptor, self._path = number, descriptor, path
            self._sweep()
            return
        raise RuntimeError("all ROS domains from 1 to 101 are in use on this machine")

    def _sweep(self) -> None:
        first = _FIRST_PORT + _PORTS * self.number
        shared_memory.sweep_ports(range(first, first + _PORTS))
        shared_memory.sweep_segments()

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor >= 0:
            if self.number not in busy():
                self._sweep()
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def middleware(env: Mapping[str, str], simulated: bool) -> dict[str, str]:
    """What to add to `env` for a graph without hardware: it keeps to this machine, and to UDP.

    With Fast DDS' shared memory the making of a node may spin for ever on the file of a port, docs/adr/0006-transport.md.
    """
    if not simulated:
        return {}
    added = {}
    if not (env.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or env.get("ROS_LOCALHOST_ONLY")):
        added["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if not any(env.get(name) for name in _TRANSPORTS_CHOSEN):
        added["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"
    return added


def variables(env: Mapping[str, str], simulated: bool) -> tuple[dict[str, str], Domain | None]:
    """What to add to `env` for a graph, and the domain taken for it (None where the user chose one)."""
    added = middleware(env, simulated)
    domain = None
    if not env.get("ROS_DOMAIN_ID"):
        domain = Domain()
        added["ROS_DOMAIN_ID"] = str(domain.number)
    return added, domain
