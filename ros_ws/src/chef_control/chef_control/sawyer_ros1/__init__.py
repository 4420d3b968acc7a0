# SPDX-License-Identifier: Apache-2.0
"""The half of the Sawyer's driver that speaks ROS 1: a process of its own, in ROS 1's Python.

ROS 1 and 2 have message packages of the same names, so that one process can load only one of them. Nothing here
imports anything but the standard library, ROS 1, this folder and `chef_control.arm_link`.
"""
