# SPDX-License-Identifier: Apache-2.0
"""A serial cable made of two pseudo-terminals, which can be noisy, slow, or cut."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable

GARBLED_S = 0.6     # s, how long a fake's process sends garbage when it gets SIGUSR1


class SerialLink:
    """Carries bytes between `device_port`, where a fake device listens, and `host_port`, where its driver does.

    What may be done to the cable, at any time:
      on_host_bytes: called with what the host sent, before the device gets it; gives what the device is to get.
      on_device_bytes: the same in the other direction.
      delay_s: s by which what the device sends is late.
      inject(bytes): more bytes to the host.
      garble(seconds): spoils all that the device sends, as a bad cable does.
      cut(): as if the host's adapter were unplugged.

    Args:
      link: a path that is made to point to the host's port, and removed by `close`; '' for none.
    """

    def __init__(self, link: str = ''):
        self._device, device = pty.openpty()
        self._host, host = pty.openpty()
        self.device_port, self.host_port = os.ttyname(device), os.ttyname(host)
        for fd in (device, host):
            tty.setraw(fd)
        # Held open: a master reads an error while nobody has its slave.
        self._held = [device, host]
        self.on_host_bytes: Callable[[bytes], bytes] = lambda data: data
        self.on_device_bytes: Callable[[bytes], bytes] = lambda data: data
        self.delay_s = 0.0
        self.link = link
        if link:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
            os.symlink(self.host_port, link)
        self._wake, self._woken = os.pipe()
        self._lock = threading.Lock()   # of the host's side
        self._thread = threading.Thread(target=self._carry, name='serial link', daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        while True:
            ready, _, _ = select.select([self._device, self._host, self._wake], [], [])
            if self._wake in ready:
                return
            with contextlib.suppress(OSError):
                if self._host in ready:
                    data = self.on_host_bytes(os.read(self._host, 4096))
                    if data:
                        os.write(self._device, data)
                if self._device in ready:
                    data = self.on_device_bytes(os.read(self._device, 4096))
                    if self.delay_s:
                        time.sleep(self.delay_s)
                    self.inject(data)

    def inject(self, data: bytes) -> None:
        """Sends bytes to the host; nowhere once the cable is cut."""
        with self._lock, contextlib.suppress(OSError):
            if self._host >= 0 and data and select.select([], [self._host], [], 0)[1]:
                os.write(self._host, data)

    def garble(self, seconds: float) -> None:
        """Spoils every byte from the device for so long, from now on."""
        end = time.monotonic() + seconds
        self.on_device_bytes = lambda data: bytes(b ^ 0x5a for b in data) if time.monotonic() < end else data

    def cut(self) -> None:
        """Unplugs the host's end: its port reads and writes errors from now on, and cannot be opened again."""
        self._stop()
        with self._lock:
            for fd in (self._host, *self._held):
                os.close(fd)
            self._host, self._held = -1, []

    def _stop(self) -> None:
        if self._thread.is_alive():
            os.write(self._woken, b'.')
            self._thread.join(timeout=5.0)

    def close(self) -> None:
        """Frees the ports; the link's path goes as well."""
        if self._device < 0:
            return
        if self._host >= 0:
            self.cut()
        for fd in (self._device, self._wake, self._woken):
            os.close(fd)
        self._device = -1
        if self.link:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.link)

    def __enter__(self) -> SerialLink:
        return self

    def __exit__(self, *_) -> None:
        self.close()
