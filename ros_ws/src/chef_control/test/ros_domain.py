# SPDX-License-Identifier: Apache-2.0
"""ROS domains for tests that start nodes: apart from one another's, also where two of them run at the same time, and from
every graph that runs on this machine: a test stops arms."""

import os


def domain(slot: int) -> int:
    """Of a test file that has `slot`, 0 to 3, for itself, in whichever of two processes of pytest-xdist it runs."""
    worker = os.environ.get('PYTEST_XDIST_WORKER', '')
    of_all = os.getppid() if worker else os.getpid()
    first = of_all + 20 * slot + 10 * (int(worker.removeprefix('gw') or 0) % 2)
    taken = _taken()
    return next(d for d in (20 + (first + k) % 80 for k in range(10)) if d not in taken)


def _taken() -> set[int]:
    """DDS: domain d listens on UDP ports 7400 + 250 d and up."""
    ports = set()
    for table in ('/proc/net/udp', '/proc/net/udp6'):
        if os.path.exists(table):
            with open(table) as lines:
                ports |= {int(line.split()[1].rpartition(':')[2], 16) for line in list(lines)[1:]}
    return {(port - 7400) // 250 for port in ports}
