# SPDX-License-Identifier: Apache-2.0
"""Executable `arm_driver`."""

from chef_control.drivers.actuators import ArmDriver
from chef_control.node import run


def main() -> None:
    run(ArmDriver, 'arm_driver')
