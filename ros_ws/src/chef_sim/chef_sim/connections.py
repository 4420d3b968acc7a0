# SPDX-License-Identifier: Apache-2.0
"""The clients of a world server: sockets that never make the world wait."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import selectors
import socket
from collections.abc import Callable

from chef_sim.protocol import MAX_PACKET, Hello, ProtocolError, encode, join_batch, parse

_LOG = logging.getLogger(__name__)
_OUTBOX = 64    # packets kept for a client that does not read; then the oldest are dropped
_PACKETS = 64   # packets taken from one client at a time


class _Client:
    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.name = '(no hello yet)'
        self.streams: frozenset[str] | None = None
        self.outbox: collections.deque[bytes] = collections.deque()
        self.lost = 0


def listen(path: str) -> socket.socket:
    """A listening SEQPACKET socket at `path`; takes over a path that nobody answers at.

    Raises:
      OSError: the path is too long, in use, or cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if os.path.exists(path):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)
                else:
                    raise OSError(f'a world already listens at {path}')
        try:
            sock.bind(path)
        except OSError as e:
            raise OSError(f'cannot listen at {path}: {e.strerror or e}') from None
        sock.listen(32)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class Connections:
    """All clients of a listening socket, served from one thread.

    Args:
      path: of the socket.
      on_hello: gives the answer to a client's hello.
      on_packet: takes every other packet and a function that answers it; ValueError drops the client.
    """

    def __init__(self, path: str, on_hello: Callable[[Hello], dict],
                 on_packet: Callable[[object, Callable[[dict], None]], None]):
        self._path, self._on_hello, self._on_packet = path, on_hello, on_packet
        self._listener = listen(path)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._clients: dict[socket.socket, _Client] = {}

    def wake(self) -> None:
        """Ends a `poll` that waits; from any thread."""
        with contextlib.suppress(OSError):
            self._wake_write.send(b'x')

    def poll(self, timeout_s: float) -> None:
        """Serves what has come, waiting at most `timeout_s` for something."""
        for key, events in self._selector.select(max(0.0, timeout_s)):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
            elif key.fileobj in self._clients:
                client = self._clients[key.fileobj]
                if events & selectors.EVENT_READ:
                    self._receive(client)
                if events & selectors.EVENT_WRITE and client.sock in self._clients:
                    self._flush(client)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self._clients[sock] = _Client(sock)
            self._selector.register(sock, selectors.EVENT_READ)

    def _receive(self, client: _Client) -> None:
        for _ in range(_PACKETS):
            try:
                data, _, flags, _ = client.sock.recvmsg(MAX_PACKET)
            except BlockingIOError:
                return
            except OSError as e:
                return self._drop(client, e.strerror or str(e))
            if not data:
                return self._drop(client)
            try:
                if flags & socket.MSG_TRUNC:
                    raise ProtocolError(f'a packet is longer than {MAX_PACKET} bytes')
                self._take(client, parse(data))
            except ValueError as e:
                self._send(client, encode({'error': str(e)}))
                return self._drop(client, str(e))
            if client.sock not in self._clients:
                return

    def _take(self, client: _Client, packet) -> None:
        if isinstance(packet, Hello):
            if client.streams is not None:
                raise ProtocolError('hello twice')
            client.name, client.streams = packet.name, frozenset(packet.streams)
            self._send(client, encode(self._on_hello(packet)))
        elif client.streams is None:
            raise ProtocolError('the first packet must be a hello')
        else:
            self._on_packet(packet, lambda answer: self._send(client, encode(answer)))

    def broadcast(self, stamp_ns: int, samples: list[tuple[str, bytes]], only_idle: bool = False) -> None:
        """Sends each client the samples (stream, bytes) of its streams as one batch.

        Args:
          only_idle: leave out clients that still have packets to read.
        """
        packets: dict[frozenset[str], bytes] = {}
        for client in list(self._clients.values()):
            if not client.streams or (only_idle and client.outbox):
                continue
            if client.streams not in packets:
                wanted = [data for stream, data in samples if stream in client.streams]
                packets[client.streams] = join_batch(stamp_ns, wanted) if wanted else b''
            if packets[client.streams]:
                self._send(client, packets[client.streams])

    def broadcast_each(self, stamp_ns: int, samples: Callable[[str, frozenset[str]], list[bytes]]) -> None:
        """Sends each client a batch of its own: what `samples` gives for its name and streams, if anything."""
        for client in list(self._clients.values()):
            own = samples(client.name, client.streams) if client.streams else []
            if own:
                self._send(client, join_batch(stamp_ns, own))

    def _send(self, client: _Client, data: bytes) -> None:
        if client.sock not in self._clients:
            return
        if len(client.outbox) >= _OUTBOX:
            client.outbox.popleft()
            client.lost += 1
        client.outbox.append(data)
        self._flush(client)

    def _flush(self, client: _Client) -> None:
        try:
            while client.outbox:
                client.sock.send(client.outbox[0])
                client.outbox.popleft()
        except BlockingIOError:
            pass
        except OSError as e:
            return self._drop(client, e.strerror or str(e))
        write = selectors.EVENT_WRITE if client.outbox else 0
        self._selector.modify(client.sock, selectors.EVENT_READ | write)

    def _drop(self, client: _Client, why: str = '') -> None:
        if self._clients.pop(client.sock, None) is None:
            return
        self._selector.unregister(client.sock)
        client.sock.close()
        if client.lost:
            why = f'{why + "; " if why else ""}{client.lost} packets were dropped since it did not read them'
        if why:
            _LOG.info('client %s left: %s', client.name, why)

    def close(self) -> None:
        """Closes all connections and removes the socket."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._selector.close()
        for s in (self._listener, self._wake_read, self._wake_write):
            s.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
