# SPDX-License-Identifier: Apache-2.0
"""Executable `wrench_driver`."""

from chef_control.drivers.sensors import WrenchDriver
from chef_control.node import run


def main() -> None:
    run(WrenchDriver, 'wrench_driver')
