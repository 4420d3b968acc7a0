# SPDX-License-Identifier: Apache-2.0
"""ROS domains for tests that start nodes: apart from one another's, also where two of them run at the same time."""

import os


def domain(slot: int) -> int:
    """Of a test file that has `slot`, 0 to 3, for itself, in whichever of two processes of pytest-xdist it runs."""
    worker = os.environ.get('PYTEST_XDIST_WORKER', '')
    of_all = os.getppid() if worker else os.getpid()
    return 20 + (of_all + 20 * slot + 10 * (int(worker.removeprefix('gw') or 0) % 2)) % 80
