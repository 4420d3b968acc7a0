# SPDX-License-Identifier: Apache-2.0
"""What arms have in common that are spoken to by a process of their own, a child of the driver's. See `arm_link`."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
import time

from chef_control.arm_link.wire import GONE, HEARTBEAT_S, LOST_S, MAX_AGE_NS, SILENCE_S, Link, WireError
from chef_control.devices.device import DeviceError, OnBatch, OnLost

_LOAD_S = 60.0      # for the process to load, at most
_CLOSE_S = 2.0      # for the process to stop the arm and end


class BridgedArm:
    """A device, from when the arm is ready to move until its process or the robot is lost.

    It stops within 100 ms of the last command, or of the last sign of life of either process.

    Args:
      where: names the arm in messages. process: names its process there.
      deadline_s: for each step of the start.
      close_s: what the process may take to end, besides 2 s.

    Raises:
      DeviceError: what `start_process` or the process itself says is missing; its first sample is refused.
    """

    def __init__(self, on_batch: OnBatch, on_lost: OnLost, *, where: str, process: str, deadline_s: float,
                 close_s: float = 0.0):
        self._on_batch, self._on_lost = on_batch, on_lost
        self._where, self._called, self._close_s = where, process, close_s
        self._closing, self._checked = threading.Event(), threading.Event()
        self._fault = ''
        self._heard_s = 0.0     # of its newest fresh packet
        self.late = 0       # commands that were too old to be obeyed
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link = Link(here)
        try:
            self._process = self.start_process(there.fileno())
        except OSError as e:
            self._link.close()
            raise self._error(f'{process} cannot be started: {e.filename or ""}: {e.strerror or e}') from None
        finally:
            there.close()
        self._thread = threading.Thread(target=self._run, name='arm', daemon=True)
        try:
            self._await_ready(_LOAD_S + 3 * deadline_s)
            self._thread.start()
            if not self._checked.wait(deadline_s):
                self._fault = self._fault or self.nothing_came()
            if self._fault:
                raise self._error(self._fault)
        except BaseException:
            self.close()
            raise

    def start_process(self, fd: int) -> subprocess.Popen:
        """Starts the process, which inherits the socket of this number; OSError if it cannot be started."""
        raise NotImplementedError

    def accept(self, sample: dict) -> list[dict]:
        """What the driver gets of the process's sample; ValueError, in one line, if the arm must not be used."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether what has come is enough to let the driver begin."""
        raise NotImplementedError

    def nothing_came(self) -> str:
        """What was waited for in vain, should `ready` not hold in time."""
        return 'it tells nothing'

    def alone(self) -> None:
        """Called once when the process is lost: stops the arm in another way, if there is one."""

    def _error(self, text: str) -> DeviceError:
        return DeviceError(f'{self._where}: {text}')

    def _await_ready(self, deadline_s: float) -> None:
        # the process has deadlines of its own for each step; this one is for a process that hangs
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            select.select([self._link], [], [], left)
            try:
                packet = self._link.receive()
            except WireError as e:
                raise self._error(f'{self._called} ended at once: {e}') from None
            if packet is not None and packet['kind'] == 'error':
                raise self._error(packet['text'])
            if packet is not None and packet['kind'] == 'ready':
                self._heard_s = time.monotonic()
                return
        raise self._error(f'{self._called} does not answer')

    def send(self, command: dict) -> None:
        """Passes velocities on; those that are late, or that nobody watches over, as zeros."""
        velocity = [float(v) for v in command['velocity']]
        late = abs(time.time_ns() - command['stamp']) > MAX_AGE_NS
        self.late += late
        if late or time.monotonic() - self._heard_s > SILENCE_S:
            velocity = [0.0] * len(velocity)
        try:
            self._link.send('command', velocity=velocity)
        except WireError as e:
            raise self._error(self._fault or f'{self._called}: {e}') from None

    def _run(self) -> None:
        """The reader's thread: samples in, heartbeats out, until the link ends."""
        beat = time.monotonic()
        try:
            while not self._closing.is_set():
                now = time.monotonic()
                if now >= beat:
                    beat = now + HEARTBEAT_S
                    with contextlib.suppress(WireError):    # its last words are still to be read
                        self._link.send('heartbeat')
                select.select([self._link], [], [], max(0.0, beat - time.monotonic()))
                while (packet := self._link.receive()) is not None:
                    self._heard_s = time.monotonic()
                    if packet['kind'] == 'error':
                        raise WireError(packet['text'])
                    self._take(packet.get('samples', []))
                silent = time.monotonic() - self._link.heard_s
                if silent > LOST_S:
                    raise WireError(f'{self._called} has been silent for {silent:.1f} s')
        except (WireError, ValueError, OSError) as e:
            if not self._closing.is_set():
                self._lose(str(e) if str(e) != GONE else f'{self._called} has died')

    def _take(self, samples: list[dict]) -> None:
        out = [passed for sample in samples for passed in self.accept(sample)]
        if not self._checked.is_set() and self.ready():
            self._checked.set()
        if out and self._checked.is_set():
            self._on_batch(out)

    def _lose(self, text: str) -> None:
        self._fault = text
        self._process.kill()    # one that only hung must not go on by itself
        self.alone()
        begun = self._checked.is_set()
        self._checked.set()
        if begun:
            self._on_lost(str(self._error(text)))

    def close(self) -> None:
        """Stops the arm and ends its process."""
        if self._closing.is_set():
            return
        self._closing.set()
        with contextlib.suppress(WireError):
            self._link.send('close')
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(1.0)
        try:
            self._process.wait(_CLOSE_S + self._close_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(1.0)
        self._link.close()
