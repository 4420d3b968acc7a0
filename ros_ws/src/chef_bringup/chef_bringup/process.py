# SPDX-License-Identifier: Apache-2.0
"""One node's process, as the supervisor sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from chef_bringup.graph import ArgumentError, NodeSpec
from chef_bringup.logs import NodeLog


def find_executable(package: str, executable: str, env: Mapping[str, str]) -> Path:
    """`lib/<package>/<executable>` below AMENT_PREFIX_PATH, as `ros2 run` finds it; or ArgumentError."""
    for prefix in env.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix) / "lib" / package / executable
        if prefix and path.is_file() and os.access(path, os.X_OK):
            return path
    raise ArgumentError(f"package {package!r} has no executable {executable!r} here; is the workspace built and sourced?")


def parameter_file(specs: Sequence[NodeSpec]) -> str:
    """The text of a ROS parameter file for all nodes."""
    lines = []
    for spec in specs:
        lines += [f"/{spec.namespace}/{spec.name}:", "  ros__parameters:"]
        # JSON's scalars are YAML's, with the type in sight: "1" is a string, 1 an integer, 1.0 a double.
        lines += [f"    {name}: {json.dumps(value)}" for name, value in spec.parameters.items()]
        if not spec.parameters:
            lines[-1] += " {}"
    return "\n".join(lines) + "\n"


def command(spec: NodeSpec, executable: Path, parameters: Path) -> list[str]:
    """The command line that makes the executable this node."""
    remap = ["-r", f"__node:={spec.name}", "-r", f"__ns:=/{spec.namespace}"]
    remap += [word for topic, other in spec.remap.items() for word in ("-r", f"{topic}:={other}")]
    level = ["--log-level", spec.log_level]
    return [str(executable), *spec.arguments, "--ros-args", *remap, *level, "--params-file", str(parameters)]


def describe(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


class NodeProcess:
    """A node and its process, which has a session of its own so that a terminal's Ctrl-C does not reach it."""

    def __init__(self, spec: NodeSpec, arguments: list[str], env: dict[str, str], log: NodeLog) -> None:
        self.spec = spec
        self.restarts = 0
        self.log = log
        self._arguments = arguments
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; raises OSError."""
        arguments = self._arguments
        if self.spec.nice:
            arguments = ["nice", "-n", str(self.spec.nice), *arguments]
        self._process = subprocess.Popen(
            arguments, env={**self._env, **self.spec.env}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip
        os.set_blocking(self.output.fileno(), False)

    @property
    def output(self):
        """The pipe with what it prints."""
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout

    @property
    def pid(self) -> int:
        """Of the running or last process; 0 before the first."""
        return self._process.pid if self._process else 0

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """Whether it was started and no `poll` has seen its end yet, so that no end goes by unseen."""
        return self._process is not None and self._process.returncode is None

    def drain(self) -> bool:
        """Log what it has printed; False once its output is closed."""
        for _ in range(64):  # others want to be heard too
            try:
                data = os.read(self.output.fileno(), 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.log.feed(data)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Signal it and what it started."""
        if self.running:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass
