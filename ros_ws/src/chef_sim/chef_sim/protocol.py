# SPDX-License-Identifier: Apache-2.0
"""Packets between the world and its clients: one JSON object each, at most 64 KiB; see ARCHITECTURE.md."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from chef_sim.faults import Fault
from chef_sim.streams import STREAMS

MAX_PACKET = 65536
_MAX_STAMP = 2**63 - 1
_ENCODER = json.JSONEncoder(separators=(',', ':'), allow_nan=False, check_circular=False)


class ProtocolError(ValueError):
    """A packet that the protocol does not know."""


@dataclass(frozen=True)
class Hello:
    """The first packet of a client: its name and the streams it wants."""

    name: str
    streams: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """Velocities of the 'arm' [7], rad/s, or of the 'gripper' [1], -1 .. 1."""

    device: str
    stamp_ns: int
    velocity: tuple[float, ...]


@dataclass(frozen=True)
class Place:
    """A request for new places of the objects, and for other objects if `triplet` is given."""

    id: int
    seed: int
    triplet: int | None


@dataclass(frozen=True)
class Inject:
    """A request for a fault of the hardware; without one, for the end of all faults."""

    id: int
    fault: Fault | None


def _bad_constant(text: str):
    raise ProtocolError(f'{text} is not a number')


def _integer(packet: dict, key: str, low: int = 0, high: int = _MAX_STAMP) -> int:
    value = packet.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ProtocolError(f'{key} must be a whole number of {low}..{high}, not {_short(value)}')
    return value


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + '...'


def _number(value) -> float:
    if type(value) not in (int, float) or not abs(value) <= 1e9:
        raise ProtocolError(f'a number within 1e9 is needed, not {_short(value)}')
    return float(value)


def parse(data: bytes) -> Hello | Command | Place | Inject:
    """The packet of a client; ProtocolError, in one line, for anything else."""
    try:
        packet = json.loads(data, parse_constant=_bad_constant)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as e:
        raise ProtocolError(f'a packet of {len(data)} bytes is not JSON: {_short(str(e))}') from None
    if not isinstance(packet, dict):
        raise ProtocolError(f'a packet must be a JSON object, not {_short(packet)}')
    if 'hello' in packet:
        return _hello(packet)
    if 'command' in packet:
        return _command(packet)
    if 'request' in packet:
        return _request(packet)
    raise ProtocolError(f'a packet must hold hello, command or request, not {_short(sorted(packet))}')


def _hello(packet: dict) -> Hello:
    name, streams = packet['hello'], packet.get('streams', [])
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise ProtocolError(f'hello must give a name, not {_short(name)}')
    if not isinstance(streams, list) or not all(isinstance(s, str) for s in streams):
        raise ProtocolError(f'streams must be a list of names, not {_short(streams)}')
    unknown = [s for s in streams if s not in STREAMS]
    if unknown:
        raise ProtocolError(f'stream {_short(unknown[0])} does not exist, choose of {", ".join(STREAMS)}')
    return Hello(name, tuple(streams))


def _command(packet: dict) -> Command:
    device, stamp, velocity = packet['command'], _integer(packet, 'stamp'), packet.get('velocity')
    if device == 'arm':
        if not isinstance(velocity, list) or len(velocity) != 7:
            raise ProtocolError(f'the velocity of the arm must be 7 numbers, not {_short(velocity)}')
        return Command('arm', stamp, tuple(_number(v) for v in velocity))
    if device == 'gripper':
        return Command('gripper', stamp, (_number(velocity),))
    raise ProtocolError(f"a command must be for 'arm' or 'gripper', not {_short(device)}")


def _request(packet: dict) -> Place | Inject:
    if packet['request'] == 'fault':
        return _inject(packet)
    if packet['request'] != 'place':
        raise ProtocolError(f"the request must be 'place' or 'fault', not {_short(packet['request'])}")
    triplet = packet.get('triplet')
    if triplet is not None:
        triplet = _integer(packet, 'triplet')
    return Place(_integer(packet, 'id'), _integer(packet, 'seed'), triplet)


def _inject(packet: dict) -> Inject:
    if packet.get('kind') == 'clear':
        return Inject(_integer(packet, 'id'), None)
    kind, stream, client = (packet.get(k, '') for k in ('kind', 'stream', 'client'))
    for text in (kind, stream, client):
        if not isinstance(text, str) or len(text) > 100:
            raise ProtocolError(f'kind, stream and client must be names, not {_short(text)}')
    amount, duration = (_number(packet.get(k, 0.0)) for k in ('amount', 'duration_s'))
    try:
        fault = Fault(kind, stream, client, amount, duration, _integer({'seed': 0, **packet}, 'seed'))
    except ValueError as e:
        raise ProtocolError(str(e)) from None
    return Inject(_integer(packet, 'id'), fault)


def encode(packet: dict) -> bytes:
    """A packet's bytes; ProtocolError if it is too long, ValueError for a number that is not finite."""
    data = _ENCODER.encode(packet).encode()
    if len(data) > MAX_PACKET:
        raise ProtocolError(f'a packet of {len(data)} bytes is longer than {MAX_PACKET}')
    return data


def encode_sample(sample: dict) -> bytes:
    """A sample's bytes, to be joined by `join_batch`: encoded once, sent to several clients."""
    return _ENCODER.encode(sample).encode()


def join_batch(stamp_ns: int, samples: list[bytes]) -> bytes:
    """The batch packet of samples that `encode_sample` made."""
    return b'{"stamp":%d,"samples":[%s]}' % (stamp_ns, b','.join(samples))


def decode(data: bytes) -> dict:
    """The packet of a world; a null among a sample's readings, as JSON has no NaN, becomes NaN.

    Raises:
      ValueError, RecursionError: it is no JSON object.
    """
    packet = json.loads(data)
    if not isinstance(packet, dict):
        raise ProtocolError(f'a packet must be a JSON object, not {_short(packet)}')
    if b'null' in data and 'samples' in packet:
        packet['samples'] = _nan_for_none(packet['samples'])
    return packet


def _nan_for_none(value):
    if isinstance(value, dict):
        return {k: _nan_for_none(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_nan_for_none(v) for v in value]
    return math.nan if value is None else value
