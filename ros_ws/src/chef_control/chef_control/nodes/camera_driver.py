# SPDX-License-Identifier: Apache-2.0
"""Executable `camera_driver`."""

from chef_control.drivers.cameras import CameraDriver
from chef_control.node import run


def main() -> None:
    run(CameraDriver, 'camera_driver')
