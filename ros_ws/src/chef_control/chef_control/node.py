# SPDX-License-Identifier: Apache-2.0
"""What all nodes of the cell share: parameters with descriptors, start, and an orderly end."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription

from chef_control.executor import LeanExecutor
from chef_control.health import Health, Report
from chef_control.last_exit import exit_after
from chef_task.qos import profile


class ConfigError(Exception):
    """A node cannot start; the text is one line saying what is wrong and where."""


@dataclass(frozen=True)
class Param:
    """A parameter: name, default (its type is the parameter's), description with unit."""

    name: str
    default: Any
    description: str


RUN_DIR = Param('run_dir', '', 'absolute path of the run: episodes, policies, replay, logs')
CELL_CONFIG = Param('cell_config', '', 'absolute path of the cell\'s YAML')
WORLD_SOCKET = Param('world_socket', '', 'path of the simulated world\'s Unix socket')
LOCKSTEP = Param('lockstep', False, 'simulated time as fast as it goes, instead of real time')
DEVICE_DEADLINE = Param('device_deadline_s', 10.0, 's that a device, or the simulated world, may take to appear')
LOCKSTEP_DEADLINE = Param('lockstep_deadline_s', 5.0, 's of wall time that lockstep waits for a peer')


def to_time(ns: int) -> Time:
    """ns as a builtin_interfaces/Time."""
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


LEAVE_S = 2.0   # for leaving the DDS domain, which takes some ms
_ASKED: list[int] = []


def asked_to_stop() -> bool:
    """Whether SIGINT or SIGTERM has come; for long work that should not be waited for."""
    return bool(_ASKED)


class CellNode(Node):
    """A node with declared parameters (`self.params`), diagnostics, and a place to stop in good order.

    `self.health` counts; once a second its report, completed by `diagnose`, goes to /diagnostics.
    """

    PARAMS: tuple[Param, ...] = ()
    DIAGNOSTICS_S = 1.0
    HEARS_OF_LOSS = False   # SIGUSR1 sets `node_lost`: whoever started the nodes sends it when one of them dies

    def __init__(self, name: str):
        super().__init__(name)
        self.params: dict[str, Any] = {}
        for p in self.PARAMS:
            descriptor = ParameterDescriptor(description=p.description, read_only=True)
            self.params[p.name] = self.declare_parameter(p.name, p.default, descriptor).value
        self.quiet: list[Subscription] = []  # that do not wake the node, see `executor`
        self.node_lost = False
        if self.HEARS_OF_LOSS:
            signal.signal(signal.SIGUSR1, self._on_node_lost)
        self.finished: int | None = None    # exit code, once the node wants to end by itself
        self.health = Health()
        # Absolute, as everybody who watches robots listens there; the hardware's id tells the cells apart.
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', profile('stream'))
        self.every(self.DIAGNOSTICS_S, self._publish_diagnostics)

    def _on_node_lost(self, *_) -> None:
        self.node_lost = True       # a signal handler does no more

    @property
    def lockstep(self) -> bool:
        return self.params['lockstep']

    def wall_ns(self) -> int:
        """Now, of the clock that stamps samples in real time, ns."""
        return time.time_ns()

    def every(self, period_s: float, callback):
        """A timer on the monotonic clock, whatever `use_sim_time` says: deadlines are of wall time."""
        return self.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def diagnose(self, report: Report) -> None:
        """Adds to a report what is not counted by `health`; called once a second. Overridden by need."""

    def _publish_diagnostics(self) -> None:
        report = self.health.report()
        try:
            self.diagnose(report)
        except Exception as e:  # looking at a fault must not be one
            report.error(f'{type(e).__name__}: {" ".join(str(e).split())}')
        cell = self.get_namespace().strip('/')
        m = DiagnosticArray(status=[DiagnosticStatus(
            level=bytes([report.level]), name=f'{cell}/{self.get_name()}', message=report.message, hardware_id=cell,
            values=[KeyValue(key=k, value=v) for k, v in report.text_values().items()])])
        m.header.stamp = to_time(self.wall_ns())
        self._diagnostics.publish(m)

    def hungry(self) -> bool:
        """Whether quiet subscriptions should wake the node too, for now."""
        return False

    def work(self) -> bool:
        """Called between callbacks, for what is not driven by messages; True if there is more to do."""
        return False

    def stop(self) -> bool:
        """Called repeatedly once the node is asked to end; True when it is done. Overridden by need."""
        return True


def run(make: type[CellNode], name: str, stop_deadline_s: float = 5.0) -> None:
    """A node's main: exits with its code, 2 for a configuration error, 0 when asked to end."""
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, lambda number, frame: _ASKED.append(number))
    # A node that has to be told twice shows in its log where it hangs.
    faulthandler.register(signal.SIGTERM, all_threads=True, chain=True)
    if make.HEARS_OF_LOSS:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)   # until the node is there
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = None
    code = 1    # of whatever is raised unexpectedly
    try:
        node = make(name)
        code = _spin(node, stop_deadline_s)
    except (ConfigError, ValueError, ParameterException) as e:
        print(f'{name}: {" ".join(str(e).split())}', file=sys.stderr, flush=True)
        code = 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        exit_after(LEAVE_S, code)   # the work is done: what may hang below is only to leave the graph politely
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    # Threads of a device that hangs must not keep the process.
    os._exit(code)


def _spin(node: CellNode, stop_deadline_s: float) -> int:
    """Spins until the node is asked to end, or wants to, or fails; in each case it stops in good order."""
    executor = LeanExecutor(node)
    # A collection over all that was imported takes tens of ms, as long as a tick.
    gc.collect()
    gc.freeze()
    code = 0
    try:
        while not _ASKED and node.finished is None:
            executor.spin_once(timeout_sec=0.0 if node.work() else 0.1)
        code = node.finished or 0
    except Exception as e:
        traceback.print_exc()
        node.get_logger().fatal(f'{type(e).__name__}: {" ".join(str(e).split())}')
        code = 1
    deadline = time.monotonic() + stop_deadline_s
    try:
        while not node.stop() and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.01)
    except Exception as e:
        node.get_logger().fatal(f'while stopping: {type(e).__name__}: {" ".join(str(e).split())}')
        code = code or 1
    return code
