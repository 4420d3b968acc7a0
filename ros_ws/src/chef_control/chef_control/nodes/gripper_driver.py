# SPDX-License-Identifier: Apache-2.0
"""Executable `gripper_driver`."""

from chef_control.drivers.actuators import GripperDriver
from chef_control.node import run


def main() -> None:
    run(GripperDriver, 'gripper_driver')
