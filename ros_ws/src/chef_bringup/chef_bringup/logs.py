# SPDX-License-Identifier: Apache-2.0
"""What the nodes print: to a file each, and prefixed to the terminal."""

from __future__ import annotations

import os
import queue
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_LONGEST_LINE = 8192
_QUEUE_LINES = 10_000


def log_folder(output: Path, now: datetime | None = None) -> Path:
    """Make a new folder `logs/<date>-<time>` below `output`."""
    stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = output / "logs" / (stamp if number == 0 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"no free name for a log folder in {output}")


class Terminal:
    """Prints lines from a thread of its own.

    A terminal that stands still (Ctrl-S, a full pipe) must never hold up the nodes, so lines that do not fit
    into the queue are counted and left out here; the log files have them all.
    """

    def __init__(self, stream: BinaryIO | None = None, colour: bool | None = None) -> None:
        self._stream = stream or sys.stdout.buffer
        if colour is None:
            colour = "NO_COLOR" not in os.environ and os.isatty(self._stream.fileno())
        self._colour = colour
        self._lines: queue.Queue[bytes | None] = queue.Queue(_QUEUE_LINES)
        self._lost = 0
        self._thread = threading.Thread(target=self._print, name="terminal", daemon=True)
        self._thread.start()

    def prefix(self, name: str, number: int) -> bytes:
        """`[name] `, coloured by number where the stream is a terminal."""
        if not self._colour:
            return f"[{name}] ".encode()
        return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m[{name}]\x1b[0m ".encode()

    def write(self, line: bytes) -> None:
        """Print one line (without its end), now or never."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def say(self, text: str) -> None:
        """One line of the supervisor's own."""
        self.write(self.prefix("chef", 0) + text.encode(errors="replace"))

    def close(self, deadline_s: float = 2.0) -> None:
        """Print what is left, up to the deadline."""
        if self._lost:
            self.say(f"{self._lost} lines were not shown here; they are in the log files")
        try:
            self._lines.put(None, timeout=deadline_s)
        except queue.Full:
            return
        self._thread.join(deadline_s)

    def _print(self) -> None:
        broken = False
        while (line := self._lines.get()) is not None:
            if broken:
                continue
            try:
                self._stream.write(line + b"\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):  # the reader went away; go on for the log files' sake
                broken = True
        if not broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                pass


class NodeLog:
    """Splits a node's output into lines, for its file and for the terminal."""

    def __init__(self, path: Path, prefix: bytes, terminal: Terminal) -> None:
        self._file: BinaryIO | None = open(path, "ab")
        self._prefix = prefix
        self._terminal = terminal
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take output as it comes."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._write(line.rstrip(b"\r"))

    def close(self) -> None:
        """Write what is left of an unfinished line."""
        if self._rest:
            self._write(self._rest)
            self._rest = b""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: bytes) -> None:
        if self._file is not None:
            try:
                stamp = datetime.now().strftime("%H:%M:%S.%f")[:-3]
                self._file.write(stamp.encode() + b" " + line + b"\n")
                self._file.flush()
            except OSError as error:  # a full disk must not stop the robot's supervisor
                self._file = None
                self._terminal.say(f"no more log files: {error.strerror}")
        self._terminal.write(self._prefix + line)
