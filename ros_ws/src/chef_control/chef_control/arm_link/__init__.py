# SPDX-License-Identifier: Apache-2.0
"""An arm's driver and the process that speaks to the robot, joined by a socket: packets, and a watchdog at either end.

Nothing here imports anything but the standard library, so that the process may be one of another Python.
"""
