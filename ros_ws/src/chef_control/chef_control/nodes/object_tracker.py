# SPDX-License-Identifier: Apache-2.0
"""Executable `object_tracker`."""

from chef_control.drivers.sensors import ObjectTracker
from chef_control.node import run


def main() -> None:
    run(ObjectTracker, 'object_tracker')
