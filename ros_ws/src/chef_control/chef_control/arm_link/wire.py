# SPDX-License-Identifier: Apache-2.0
"""Packets between an arm's driver and the process that speaks to the robot: one JSON object each.

Every packet has `kind`, `seq` (0, 1, 2, ... of its sender) and `stamp` (ns of the system clock, when it was sent).

    driver to bridge    command    velocity[n], rad/s
                        heartbeat
                        close      stop, then end
    bridge to driver    ready      the robot is there, and enabled if that was asked for
                        samples    samples[], as of any device of the cell
                        heartbeat
                        error      text, one line; the last packet

The socket (Unix SEQPACKET) keeps packets whole and in order: one that is missing, repeated or out of order means that
somebody else is at the other end. What took longer than MAX_AGE_NS is not obeyed and is no sign of life, but that the
other side has not gone for good.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time

SILENCE_S = 0.1             # without a sign of life of the other side, after which the arm stops
LOST_S = 2.0                # without any packet of it, after which it is given up
HEARTBEAT_S = 0.025
MAX_AGE_NS = 100_000_000    # of a packet
MAX_PACKET = 65536
GONE = 'it has gone'
KINDS = ('command', 'heartbeat', 'close', 'ready', 'samples', 'error')
_DATED = ('command', 'heartbeat', 'samples')    # kinds that are worth nothing when they are old


class WireError(Exception):
    """The other side has gone, or sent what it should not; one line."""


def encode(kind, seq, stamp_ns, **fields):
    """A packet's bytes; WireError if it is too long."""
    data = json.dumps({'kind': kind, 'seq': seq, 'stamp': stamp_ns, **fields}, separators=(',', ':')).encode()
    if len(data) > MAX_PACKET:
        raise WireError('a packet of %d bytes is longer than %d' % (len(data), MAX_PACKET))
    return data


def decode(data):
    """The packet of some bytes, a dict; WireError, in one line, if it is none."""
    try:
        packet = json.loads(data)
    except (ValueError, RecursionError):
        raise WireError('a packet of %d bytes is not JSON' % len(data)) from None
    if not isinstance(packet, dict) or packet.get('kind') not in KINDS:
        raise WireError('a packet is of no known kind')
    for key in ('seq', 'stamp'):
        if type(packet.get(key)) is not int or not 0 <= packet[key] < 2**63:
            raise WireError('a packet of kind %s has no %s' % (packet['kind'], key))
    if packet['kind'] == 'error' and not isinstance(packet.get('text'), str):
        raise WireError('an error without text')
    samples = packet.get('samples')
    if packet['kind'] == 'samples' and not (
            isinstance(samples, list) and all(isinstance(s, dict) and isinstance(s.get('stream'), str) for s in samples)):
        raise WireError('samples that are none')
    return packet


def velocity_of(packet, size):
    """The velocities of a command, a list of `size` finite numbers, rad/s; WireError if it has none."""
    values = packet.get('velocity')
    good = isinstance(values, list) and len(values) == size and all(
        type(v) in (int, float) and math.isfinite(v) for v in values)
    if not good:
        raise WireError('a command that is not %d finite velocities' % size)
    return [float(v) for v in values]


class Sequence:
    """Judges the packets of one sender, in the order of their arrival."""

    def __init__(self):
        self._next = 0
        self.late = 0       # packets that were too old, or from the future

    def admits(self, packet, now_ns):
        """Whether it is fresh; WireError if it is not the next one."""
        if packet['seq'] != self._next:
            raise WireError('packet %d came where %d was due' % (packet['seq'], self._next))
        self._next += 1
        if packet['kind'] in _DATED and abs(now_ns - packet['stamp']) > MAX_AGE_NS:
            self.late += 1
            return False
        return True


class Link:
    """One end of the socket. `send` may be called from any thread, `receive` from one."""

    def __init__(self, sock):
        self._sock = sock
        self._lock = threading.Lock()
        self._sent = 0
        self.sequence = Sequence()
        self.heard_s = time.monotonic()     # when the newest packet was read, however old it was
        sock.setblocking(False)

    def fileno(self):
        return self._sock.fileno()

    def send(self, kind, **fields):
        """False if the other side has not read for so long that there is no room; WireError if it has gone."""
        with self._lock:
            data = encode(kind, self._sent, time.time_ns(), **fields)
            try:
                self._sock.send(data)
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                raise WireError(GONE) from None
            except OSError as e:
                raise WireError(e.strerror or str(e)) from None
            self._sent += 1
            return True

    def receive(self):
        """The next fresh packet, None if there is none yet; WireError if the other side has gone or is wrong."""
        while True:
            try:
                data = self._sock.recv(MAX_PACKET)
            except BlockingIOError:
                return None
            except ConnectionResetError:    # said once: the last words of who died with packets unread come after it
                continue
            except OSError as e:
                raise WireError(e.strerror or str(e)) from None
            if not data:
                raise WireError(GONE)
            packet = decode(data)
            fresh = self.sequence.admits(packet, time.time_ns())
            self.heard_s = time.monotonic()
            if fresh:
                return packet

    def close(self):
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()
