# SPDX-License-Identifier: Apache-2.0
"""Executable `fake_device MODULE WORDS...`: a fake of `chef_control.fakes` as a process of the graph. It is no ROS node."""

import runpy
import sys


def main() -> None:
    words = sys.argv[1:]
    if '--ros-args' in words:       # which every process of a graph is given
        words = words[:words.index('--ros-args')]
    sys.argv = words
    runpy.run_module(words[0], run_name='__main__', alter_sys=True)
