# SPDX-License-Identifier: Apache-2.0
"""Starts a graph, watches it and leaves nothing behind.

A run goes RUN -> GRACE -> REST -> INTERRUPT -> TERMINATE -> KILL -> OVER, and never back. It leaves RUN when the
node that ends the graph has ended well (GRACE is skipped), when a required node ends, or when it is asked to stop;
it leaves each later phase at its deadline, on another Ctrl-C, REST when those that stop first have ended, or
straight to OVER when no node runs any more.
"""

from __future__ import annotations

import enum
import selectors
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chef_bringup import guard
from chef_bringup.graph import NodeSpec
from chef_bringup.logs import NodeLog, Terminal
from chef_bringup.process import NodeProcess, command, describe, find_executable, parameter_file


@dataclass(frozen=True)
class Deadlines:
    """Seconds that each phase of a stop may take.

    Attributes:
        grace_s: for the other nodes to end the episode and seal the bag by themselves; no longer than the node that
            leads them runs.
        rest_s: for those that stop first, after SIGINT to them alone.
        interrupt_s: after SIGINT.
        terminate_s: after SIGTERM.
        kill_s: after SIGKILL, for the kernel.
    """

    grace_s: float = 3.0
    rest_s: float = 3.0
    interrupt_s: float = 8.0
    terminate_s: float = 3.0
    kill_s: float = 2.0


class Phase(enum.IntEnum):
    """Where a run is."""

    RUN = 0
    GRACE = 1
    REST = 2
    INTERRUPT = 3
    TERMINATE = 4
    KILL = 5
    OVER = 6


_SIGNALS = {Phase.REST: signal.SIGINT, Phase.INTERRUPT: signal.SIGINT, Phase.TERMINATE: signal.SIGTERM, Phase.KILL: signal.SIGKILL}
STOP_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs the nodes of one graph; use once.

    Args:
        specs: the nodes, in the order in which to start them.
        logs: an existing folder for the log files and the parameter file.
        env: the environment for all nodes.
        deadlines: of the stop.
        terminal: where lines are shown.
    """

    def __init__(
        self, specs: Sequence[NodeSpec], logs: Path, env: dict[str, str], deadlines: Deadlines, terminal: Terminal
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._deadlines = deadlines
        self._terminal = terminal
        self._phase = Phase.RUN
        self._phase_end = float("inf")
        self._led = False  # whether the grace ends with the node that leads
        self._requests: list[int] = []
        self._code = 0
        self._faults: list[str] = []
        self._ended: set[int] = set()
        self._restart_at: dict[str, float] = {}
        self._selector = selectors.DefaultSelector()
        parameters = logs / "parameters.yaml"
        parameters.write_text(parameter_file(specs))
        common = {
            **env,
            **guard.mark_variables(self._mark),
            "PYTHONUNBUFFERED": "1",
            "ROS_LOG_DIR": str(logs / "ros"),
            "RCUTILS_LOGGING_USE_STDOUT": "1",
            "RCUTILS_COLORIZED_OUTPUT": "0",
        }
        # The supervisor adds the node's name and the time.
        common.setdefault("RCUTILS_CONSOLE_OUTPUT_FORMAT", "{severity} {message}")
        self._nodes = [
            NodeProcess(
                spec, command(spec, find_executable(spec.package, spec.executable, env), parameters), common,
                NodeLog(logs / f"{spec.name}.log", terminal.prefix(spec.name, number), terminal),
            )
            for number, spec in enumerate(specs, start=1)
        ]  # fmt: skip

    def run(self) -> int:
        """Run to the end; returns the exit status: 0 well, 1 failed, 128 + signal when stopped by one."""
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_REQUESTS}
        watcher = guard.start(self._mark, self._deadlines.interrupt_s, self._deadlines.terminate_s)
        try:
            for node in self._nodes:
                if self._phase == Phase.RUN and not self._requests:
                    self._start(node)
                    self._step(0.0)
            while self._phase != Phase.OVER:
                self._step(0.05)
        finally:
            self._clean_up()
            watcher.communicate(b"done")
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._verdict()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._requests.append(number)

    def _start(self, node: NodeProcess) -> None:
        for key in list(self._selector.get_map().values()):  # of its last life, held open by what it left behind
            if key.data is node:
                self._close(key)
        try:
            node.start()
        except OSError as error:
            self._fail(f"node '{node.spec.name}' did not start: {error.strerror}")
            return
        self._selector.register(node.output, selectors.EVENT_READ, node)

    def _step(self, wait_s: float) -> None:
        """One round: output, ends, requests, deadlines."""
        self._drain(wait_s)
        for node in self._nodes:
            code = node.poll()
            if code is not None and node.pid not in self._ended:
                self._ended.add(node.pid)
                self._on_end(node, code)
        while self._requests:
            self._on_request(self._requests.pop(0))
        now = time.monotonic()
        if self._phase == Phase.RUN:
            for name, at in list(self._restart_at.items()):
                if now >= at:
                    del self._restart_at[name]
                    self._start(next(node for node in self._nodes if node.spec.name == name))
        elif not any(node.running for node in self._nodes):
            self._phase = Phase.OVER
        elif now >= self._phase_end or (self._phase == Phase.GRACE and self._led and not self._leaders()) or (
            self._phase == Phase.REST and not self._first()
        ):
            self._advance()

    def _drain(self, wait_s: float) -> None:
        if not self._selector.get_map():
            time.sleep(wait_s)
            return
        for key, _ in self._selector.select(wait_s):
            if not key.data.drain():
                self._close(key)

    def _close(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        key.fileobj.close()

    def _on_end(self, node: NodeProcess, code: int) -> None:
        spec = node.spec
        what = f"node '{spec.name}' {describe(code)}"
        if self._phase == Phase.RUN:
            if spec.ends_graph and code == 0:
                self._terminal.say(f"node '{spec.name}' is done; stopping the others")
                self._enter(Phase.REST)
            elif spec.required or spec.ends_graph:
                self._fail(f"required {what}")
            elif code != 0 and spec.respawn and node.restarts < spec.respawn_limit:
                wait_s = spec.respawn_delay_s * 2**node.restarts
                node.restarts += 1
                self._restart_at[spec.name] = time.monotonic() + wait_s
                self._terminal.say(f"{what}; restart {node.restarts} of {spec.respawn_limit} in {wait_s:g} s")
            else:
                self._terminal.say(f"{what}; the graph goes on without it")
            return
        if spec.ends_graph and code < 0 and self._code <= 128:
            self._led = False  # it did not wait for the others: told before it could listen, it dies of the signal
        # Ends that our signals explain; a recorder that crashes while it seals is a failure.
        sent = [signal.SIGINT] + ([signal.SIGTERM] if self._phase >= Phase.TERMINATE else [])
        if code == 0 or any(code in (-number, 128 + number) for number in sent):
            return
        self._terminal.say(f"{what} while stopping")
        if spec.required and not spec.ends_graph:
            self._faults.append(f"required {what} while stopping")

    def _fail(self, why: str) -> None:
        self._faults.insert(0, why)
        self._code = 1
        if self._phase == Phase.RUN:
            for node in self._nodes:
                if node.spec.told_of_loss:
                    node.signal(signal.SIGUSR1)
            self._terminal.say(f"{why}; stopping in {self._deadlines.grace_s:g} s")
            self._enter(Phase.GRACE)

    def _on_request(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._phase == Phase.RUN:
            self._code = 128 + number
            self._terminal.say(f"{name}: stopping; again to hurry")
            self._enter(Phase.GRACE)
            # First the node that leads: it can end the episode while the others still serve it.
            for node in self._leaders():
                node.signal(signal.SIGINT)
        elif self._phase < Phase.KILL:
            self._terminal.say(f"{name} again")
            self._advance()

    def _leaders(self) -> list[NodeProcess]:
        return [node for node in self._nodes if node.spec.ends_graph and node.running]

    def _first(self) -> list[NodeProcess]:
        return [node for node in self._nodes if node.spec.stops_first and node.running]

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase == Phase.GRACE:
            # a leader that has failed itself does not tell when the others are done
            self._led = self._code > 128 or bool(self._leaders())
        limits = self._deadlines
        seconds = (0.0, limits.grace_s, limits.rest_s, limits.interrupt_s, limits.terminate_s, limits.kill_s, 0.0)[phase]
        self._phase_end = time.monotonic() + seconds
        if phase in _SIGNALS:
            running = self._first() if phase == Phase.REST else [node for node in self._nodes if node.running]
            if phase > Phase.INTERRUPT:
                names = ", ".join(node.spec.name for node in running)
                self._terminal.say(f"still running, sending {_SIGNALS[phase].name}: {names}")
            for node in running:
                node.signal(_SIGNALS[phase])

    def _advance(self) -> None:
        if self._phase < Phase.OVER:
            self._enter(Phase(self._phase + 1))

    def _clean_up(self) -> None:
        """End what the nodes started and left behind, and close the logs; also after an exception."""
        left = guard.sweep(self._mark, ((signal.SIGTERM, 1.0), (signal.SIGKILL, self._deadlines.kill_s)))
        if left:
            self._terminal.say(f"ended {len(left)} processes that the nodes had left behind")
        self._drain(0.0)
        self._selector.close()
        for node in self._nodes:
            node.log.close()
            node.poll()

    def _verdict(self) -> int:
        if self._faults:
            self._terminal.say(f"FAILED: {self._faults[0]}")
            return 1
        return self._code
