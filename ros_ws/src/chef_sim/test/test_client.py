# SPDX-License-Identifier: Apache-2.0
"""A driver hears of a world that sends nonsense, at once and in one line."""

import socket
import threading

import pytest

from chef_sim.client import DeviceClient, DeviceError
from chef_sim.protocol import encode

HELLO = encode({'hello': 'world'})


@pytest.fixture
def world(tmp_path):
    """Listens; `world(packets)` serves the next client with them, then waits until it has gone."""
    path = str(tmp_path / 'w.sock')
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    threads = []

    def serve(packets):
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(10.0)
            for packet in packets:
                sock.send(packet)
            while sock.recv(65536):
                pass

    def start(*packets):
        threads.append(threading.Thread(target=serve, args=(packets,), daemon=True))
        threads[-1].start()
        return path
    yield start
    for thread in threads:
        thread.join(10.0)
    listener.close()


@pytest.mark.parametrize('packet', [b'{', b'[1]', b'\xff', b'[' * 60000, b'7', b'{}'])
def test_a_packet_that_is_none_ends_the_connection(world, packet):
    lost, told = [], threading.Event()

    def on_lost(reason):
        lost.append(reason)
        told.set()
    with DeviceClient(world(HELLO, packet), 'arm', on_lost=on_lost):
        assert told.wait(10.0)
    assert lost[0].endswith('sent a packet that is no JSON object') and '\n' not in lost[0]


@pytest.mark.parametrize('packet', [b'{', b'[]', b'null', b'{"hello":7}', b'{"error":"' + b'x' * 30000 + b'"}'])
def test_a_greeting_that_is_none_is_refused(world, packet):
    with pytest.raises(DeviceError, match='refused arm') as error:
        DeviceClient(world(packet), 'arm')
    assert len(str(error.value)) < 400


def test_an_answer_to_nobody_is_passed_over(world):
    """Its id may be anything."""
    lost = threading.Event()
    with DeviceClient(world(HELLO, b'{"response":[1],"ok":true}', b'{"response":99}'), 'arm', on_lost=lambda _: lost.set()):
        assert not lost.wait(0.2)
