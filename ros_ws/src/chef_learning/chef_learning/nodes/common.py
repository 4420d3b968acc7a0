# SPDX-License-Identifier: Apache-2.0
"""What the nodes of this package share: declared parameters, and an end in good order."""

from __future__ import annotations

import signal
from typing import Any

from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

SEED_MAX = 2**63 - 1


class ConfigError(Exception):
    """A node cannot start; the text is one line that says what is wrong."""


def to_time(ns: int) -> Time:
    """ns as a builtin_interfaces/Time."""
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


def declare(node: Node, name: str, default: Any, description: str) -> Any:
    """Declares a read-only parameter and returns its value."""
    descriptor = ParameterDescriptor(description=description, read_only=True)
    return node.declare_parameter(name, default, descriptor).value


def steady_timer(node: Node, period_s: float, callback):
    """A timer of wall time, whatever `use_sim_time` says."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def catch_signals() -> list[int]:
    """A list that SIGINT and SIGTERM append themselves to, in place of what they do else."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))
    return asked


def check_observation(observation: str) -> None:
    """ConfigError unless it is 'pixels' or 'state'."""
    if observation not in ('pixels', 'state'):
        raise ConfigError(f"parameter observation must be 'pixels' or 'state', not {observation!r}")


def check_run_dir(run_dir: str) -> None:
    """ConfigError unless it is an absolute path."""
    if not run_dir.startswith('/'):
        raise ConfigError(f'parameter run_dir must be an absolute path, not {run_dir!r}')


def check_seed(seed: int) -> None:
    """ConfigError if it is negative."""
    if seed < 0:
        raise ConfigError(f'parameter seed must not be negative, not {seed}')
