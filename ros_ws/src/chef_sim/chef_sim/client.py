# SPDX-License-Identifier: Apache-2.0
"""The other end of the device server's socket, as simulated drivers use it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable

from chef_sim.protocol import MAX_PACKET, decode, encode
from chef_task.errors import one_line

_LOG = logging.getLogger(__name__)
_POLL_S = 0.5


class DeviceError(ConnectionError):
    """The world cannot be reached, has gone, or has sent this client away."""


def _parse(data: bytes) -> dict:
    """The packet of a world; empty where it is none."""
    try:
        return decode(data)
    except (ValueError, RecursionError):
        return {}


class DeviceClient:
    """A connection to a world.

    Args:
      path: of the world's socket.
      name: of this client, for the world's log.
      streams: names of the sample streams to receive.
      on_batch: called with each list of samples, oldest first, in the reader's thread.
      on_lost: called once with the reason when the connection ends by itself, in the reader's thread.
      connect_deadline_s: wall time to wait for the world to appear.

    Raises:
      DeviceError: no world answered in time.
    """

    def __init__(self, path: str, name: str, streams: Iterable[str] = (),
                 on_batch: Callable[[list[dict]], None] | None = None,
                 on_lost: Callable[[str], None] | None = None, connect_deadline_s: float = 10.0):
        self._path, self.name = path, name
        self._on_batch = on_batch or (lambda samples: None)
        self._on_lost = on_lost or (lambda reason: None)
        self._send_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[threading.Event, list]] = {}
        self._closing = threading.Event()
        self.lost = ''
        end = time.monotonic() + connect_deadline_s
        self._sock = self._connect(end)
        try:
            self.info = self._greeting(encode({'hello': name, 'streams': list(streams)}), end)
        except BaseException:
            self._sock.close()
            raise
        self._sock.settimeout(_POLL_S)
        self._thread = threading.Thread(target=self._read, name=f'{name} reader', daemon=True)
        self._thread.start()

    def _connect(self, end: float) -> socket.socket:
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                sock.settimeout(max(0.05, end - time.monotonic()))
                sock.connect(self._path)
                return sock
            except OSError as e:
                sock.close()
                if time.monotonic() > end:
                    raise DeviceError(f'no world at {self._path}: {e.strerror or e}') from None
            time.sleep(0.05)

    def _greeting(self, hello: bytes, end: float) -> dict:
        """The world's answer to hello."""
        self._sock.settimeout(max(0.05, end - time.monotonic()))
        try:
            self._sock.send(hello)
            data = self._sock.recv(MAX_PACKET)
        except OSError as e:
            raise DeviceError(f'the world at {self._path} did not answer: {e.strerror or e}') from None
        packet = _parse(data)
        if packet.get('hello') != 'world':
            raise DeviceError(f'the world at {self._path} refused {self.name}: '
                              f'{one_line(packet.get("error", "no hello"), 200)}')
        return packet

    def send(self, packet: dict) -> None:
        """Sends a packet; DeviceError if the world has gone or does not read."""
        data = encode(packet)
        with self._send_lock:
            if self.lost or self._closing.is_set():
                raise DeviceError(self.lost or 'the connection is closed')
            try:
                self._sock.send(data)
            except OSError as e:
                raise DeviceError(f'the world at {self._path} cannot be reached: {e.strerror or e}') from None

    def request(self, packet: dict, deadline_s: float) -> dict:
        """Sends a request, with an id of its own, and gives the response.

        Raises:
          TimeoutError: no response within `deadline_s`.
          DeviceError: the world has gone.
        """
        number, done, answer = next(self._ids), threading.Event(), []
        self._waiting[number] = (done, answer)
        try:
            self.send({**packet, 'id': number})
            if not done.wait(deadline_s):
                raise TimeoutError(f'the world did not answer {packet.get("request")!r} '
                                   f'within {deadline_s:g} s')
        finally:
            self._waiting.pop(number, None)
        if not answer:
            raise DeviceError(self.lost or 'the connection is closed')
        return answer[0]

    def place(self, seed: int, triplet: int | None = None, deadline_s: float = 30.0) -> dict:
        """Asks for new places of the objects; {'ok': bool, 'error': str, ...}."""
        packet = {'request': 'place', 'seed': seed}
        return self.request(packet if triplet is None else {**packet, 'triplet': triplet}, deadline_s)

    def fault(self, kind: str, deadline_s: float = 5.0, **fields) -> dict:
        """Asks for a fault, its fields as in `chef_sim.faults.Fault`; kind 'clear' ends all.

        {'ok': True, 'error': '', 'stamp': ns of the world's clock from which on it acts, ...}.
        """
        return self.request({'request': 'fault', 'kind': kind, **fields}, deadline_s)

    def _read(self) -> None:
        reason = 'the world has gone'
        while not self._closing.is_set():
            try:
                data = self._sock.recv(MAX_PACKET)
            except TimeoutError:
                continue
            except OSError as e:
                reason = f'the world has gone: {e.strerror or e}'
                break
            if not data:
                break
            packet = _parse(data)
            if not packet:
                reason = f'the world at {self._path} sent a packet that is no JSON object'
                break
            if 'samples' in packet:
                try:
                    self._on_batch(packet['samples'])
                except Exception:
                    _LOG.exception('%s: a batch could not be handled', self.name)
            elif 'response' in packet:
                number = packet['response']
                waiting = self._waiting.get(number) if isinstance(number, int) else None
                if waiting:
                    waiting[1].append(packet)
                    waiting[0].set()
            elif 'error' in packet:
                reason = f'the world sent {self.name} away: {one_line(packet["error"], 200)}'
        if not self._closing.is_set():
            self.lost = reason
            self._on_lost(reason)
        for done, _ in list(self._waiting.values()):
            done.set()

    def close(self) -> None:
        """Ends the connection and its thread."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
        self._sock.close()

    def __enter__(self) -> DeviceClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()
