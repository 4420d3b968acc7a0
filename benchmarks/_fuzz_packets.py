# SPDX-License-Identifier: Apache-2.0
"""Targets of `fuzz.py` that come over a wire: both ends of the device server's protocol, serialised messages."""

from __future__ import annotations

import logging
import random
import socket
import threading
from pathlib import Path

from _fuzz_mutate import mutate_bytes, mutate_tree, text_of
from _fuzz_target import Target

from chef_sim.client import DeviceClient, DeviceError
from chef_sim.connections import Connections
from chef_sim.protocol import MAX_PACKET, ProtocolError, encode
from chef_task.bag.definitions import typestore
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.bag import Episode
from chef_task.messages import decode, decode_serialized_wrench, serialized_stamp_ns
from chef_task.spaces import STREAMS

_FROM_CLIENT = (
    {'hello': 'arm', 'streams': ['joints', 'tcp']}, {'command': 'arm', 'stamp': 10**18, 'velocity': [0.1] * 7},
    {'command': 'gripper', 'stamp': 10**18, 'velocity': -1.0}, {'request': 'place', 'id': 3, 'triplet': 1, 'seed': 7})
_FROM_WORLD = (
    {'hello': 'world', 'physics': 'exact', 'lockstep': False, 'stamp': 10**18}, {'response': 1, 'ok': True, 'error': ''},
    {'stamp': 10**18, 'samples': [{'stream': 'joints', 'stamp': 10**18, 'position': [0.0] * 7}]}, {'error': 'hello twice'})


def _packet(rng: random.Random, packets) -> bytes:
    data = text_of(rng, mutate_tree(rng, rng.choice(packets)), 'json')
    return mutate_bytes(rng, data)[:MAX_PACKET + 100] if rng.random() < 0.2 else data[:MAX_PACKET + 100]


class Server(Target):
    """Packets to a world: answered, or the client is sent away with an error, and the next is served."""

    errors = (ProtocolError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        logging.getLogger('chef_sim').setLevel(logging.CRITICAL)
        self._path = str(folder / 'world.sock')
        self._connections = Connections(self._path, lambda hello: {'hello': 'world', 'for': hello.name},
                                        lambda packet, answer: answer({'response': getattr(packet, 'id', 0)}))

    def make(self, rng: random.Random) -> None:
        self._packets = [_packet(rng, _FROM_CLIENT) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.6:
            self._packets.insert(0, encode(_FROM_CLIENT[0]))
        self._reads = rng.random() < 0.8

    def load(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(self._path)
            client.settimeout(1.0)
            self._connections.poll(0.1)
            answers = []
            try:
                for data in self._packets:
                    client.send(data)
                    self._connections.poll(0.1)
                    self._connections.broadcast(5, [('joints', b'{}')])
                    answers.append(client.recv(MAX_PACKET) if self._reads and data else b'')
            except OSError:             # it was sent away
                pass
        self._connections.poll(0.0)
        for answer in answers:
            if answer.startswith(b'{"error"'):
                raise ProtocolError(answer.decode())


class Client(Target):
    """Packets from a world: the driver hears of it, and its reader ends in good order."""

    errors = (DeviceError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        logging.getLogger('chef_sim').setLevel(logging.CRITICAL)
        self._path = str(folder / 'device.sock')
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self._path)
        self._listener.listen()
        self._crashes: list = []
        threading.excepthook = self._crashes.append

    def make(self, rng: random.Random) -> None:
        first = encode(_FROM_WORLD[0]) if rng.random() < 0.7 else _packet(rng, _FROM_WORLD)
        self._packets = [first, *(_packet(rng, _FROM_WORLD) for _ in range(rng.randrange(4)))]

    def load(self) -> None:
        self._crashes.clear()
        server = threading.Thread(target=self._serve)
        server.start()
        lost: list[str] = []
        done = threading.Event()

        def on_lost(reason: str) -> None:
            lost.append(reason)
            done.set()
        try:
            client = DeviceClient(self._path, 'arm', ['joints'], lambda samples: [s['stream'] for s in samples], on_lost, 5.0)
            told = done.wait(5.0)
            client.close()
        finally:
            server.join()
        if self._crashes or not told:
            raise AssertionError(f'the reader ended without a word: {self._crashes and self._crashes[0].exc_value!r}')
        if lost[0] != 'the world has gone':
            raise DeviceError(lost[0])

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            try:
                for data in self._packets:
                    sock.send(data)
            except OSError:
                pass


class Serialised(Target):
    """Serialised messages as subscriptions and bags hand them in."""

    errors = (ValueError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        episode = Episode.open(write_synthetic_episode(folder, 8, 1, 'state'))
        self._store = typestore()
        self._messages = []
        for name in STREAMS:
            if episode.has(name):
                _, m = next(episode.messages(name))
                kind = STREAMS[name].msgtype
                self._messages.append((name, bytes(self._store.serialize_cdr(m, kind))))

    def make(self, rng: random.Random) -> None:
        self._stream, data = rng.choice(self._messages)
        data = mutate_bytes(rng, data, rng.choice(self._messages)[1])
        self._data = data[:rng.randrange(30)] if rng.random() < 0.2 else data

    def load(self) -> None:
        serialized_stamp_ns(self._data)
        if self._stream == 'wrench':
            decode_serialized_wrench(self._data)
        try:
            message = self._store.deserialize_cdr(self._data, STREAMS[self._stream].msgtype)
        except Exception:       # rosbags' own; its callers here expect anything
            raise ValueError('refused by rosbags') from None
        decode(self._stream, message)


TARGETS = {'device-server': Server, 'device-client': Client, 'serialised': Serialised}
