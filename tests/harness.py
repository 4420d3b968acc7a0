# SPDX-License-Identifier: Apache-2.0
"""Starts a graph as a user would and watches it from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Graph:
    """`./chef launch collect.launch.py ...` as a child process; a context that leaves nothing behind.

    Args:
      run: folder of the run.
      arguments: of the launch file.
      env: on top of the caller's environment; ROS_DOMAIN_ID is left to the launcher, which takes a free one.
    """

    def __init__(self, run: Path, env: dict[str, str] | None = None, **arguments: object):
        self.output = run
        words = [f'{k}:={v}' for k, v in {'output': run, **arguments}.items()]
        environment = {k: v for k, v in os.environ.items() if k != 'ROS_DOMAIN_ID'}
        environment |= {'CHEF_INSIDE': str(ROOT), **(env or {})}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / 'chef'), 'launch', 'collect.launch.py', *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            env=environment, cwd=run.parent, start_new_session=True)
        self.lines: list[str] = []
        self.times: list[int] = []      # when each line came, ns
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.times.append(time.time_ns())
                self.lines.append(line.rstrip('\n'))
                self._news.notify_all()

    def context(self):
        """rclpy's context for nodes of a test that join the graph from outside."""
        import rclpy
        from chef_bringup import domain

        number = int(self.wait_for(r'ROS_DOMAIN_ID=(\d+)')[1])
        os.environ.update(domain.middleware(os.environ, simulated=True))
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=number)
        return context

    @property
    def text(self) -> str:
        return '\n'.join(self.lines)

    def wait_for(self, pattern: str, deadline_s: float = 90.0, since: int = 0) -> re.Match:
        """The first line from number `since` on that matches; AssertionError with all output if none comes in time."""
        end = time.monotonic() + deadline_s
        seen = since
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self.lines)
                left = end - time.monotonic()
                over = self.process.poll() is not None and not self._reader.is_alive()
                assert left > 0 and not over, f'no line matches {pattern!r} in:\n{self.text}'
                self._news.wait(min(left, 0.5))

    def wait(self, deadline_s: float = 180.0) -> int:
        """The exit status; AssertionError with all output if it takes too long."""
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'still running after {deadline_s} s:\n{self.text}') from None
        self._reader.join(5.0)
        return code

    def processes(self) -> dict[int, str]:
        """All processes of this run: pid to command line."""
        found, ours = {}, re.compile(re.escape(str(self.output)) + r'(?![^/ ])')    # not of cell_10, if this is cell_1
        for entry in Path('/proc').iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line = (entry / 'cmdline').read_bytes().replace(b'\0', b' ').decode(errors='replace')
                state = (entry / 'stat').read_text().rsplit(')', 1)[1].split()[0]
            except OSError:
                continue
            if ours.search(line) and state != 'Z':
                found[int(entry.name)] = line
        return found

    def node_pid(self, name: str, deadline_s: float = 30.0) -> int:
        """The process of a node."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            for pid, line in self.processes().items():
                if f'__node:={name} ' in line + ' ' and pid != self.process.pid and 'guard' not in line:
                    return pid
            time.sleep(0.1)
        raise AssertionError(f'no process of node {name} among {self.processes()}')

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self._reader.join(5.0)


def no_process_left(graph: Graph, deadline_s: float = 5.0) -> dict[int, str]:
    """What is still running of a graph that has ended; {} as soon as nothing is."""
    end = time.monotonic() + deadline_s
    while (left := graph.processes()) and time.monotonic() < end:
        time.sleep(0.1)
    return left
