# SPDX-License-Identifier: Apache-2.0
import json
import queue
import socket
import subprocess
import sys
import time

import pytest

from chef_sim.client import DeviceClient, DeviceError
from chef_sim.server import WorldServer
from chef_sim.world import STREAMS

DEADLINE = 10.0


class Drivers:
    """A client that keeps its batches."""

    def __init__(self, path, streams=STREAMS, **kwargs):
        self.batches = queue.Queue()
        self.client = DeviceClient(path, 'test', streams, self.batches.put, **kwargs)

    def next_after(self, stamp):
        """The next batch that ends after `stamp`."""
        while True:
            batch = self.batches.get(timeout=DEADLINE)
            if batch[-1]['stamp'] > stamp:
                return batch

    def period_after(self, stamp, duration=50_000_000):
        """All samples of the control period after `stamp`: a period comes in two batches, in order."""
        batch = self.next_after(stamp)
        while batch[-1]['stamp'] < stamp + duration:
            batch = batch + self.next_after(batch[-1]['stamp'])
        return batch

    def command(self, stamp, devices=('arm', 'gripper')):
        for d in devices:
            self.client.send({'command': d, 'stamp': stamp, 'velocity': [0.1] * 7 if d == 'arm' else 1.0})


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'world.sock')


@pytest.fixture
def lockstep(world, path):
    with WorldServer(world, path, lockstep=True, lockstep_deadline_s=0.3) as server:
        yield server


@pytest.fixture
def drivers(lockstep, path):
    d = Drivers(path)
    yield d
    d.client.close()


def raw(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(DEADLINE)
    s.connect(path)
    return s


def test_lockstep_advances_by_a_period_per_pair(lockstep, drivers):
    info = drivers.client.info
    assert (info['lockstep'], info['physics'], info['triplet']) == (True, 'fast', 1)
    stamp = drivers.batches.get(timeout=DEADLINE)[-1]['stamp']
    assert stamp == info['stamp'] >= 1_000_000_000
    for _ in range(3):
        drivers.command(stamp)
        batch = drivers.period_after(stamp)
        count = {s: [x['stamp'] - stamp for x in batch if x['stream'] == s] for s in STREAMS}
        ten = [10_000_000 * k for k in range(1, 6)]
        assert count == {'joints': ten, 'wrench': ten, **{s: [50_000_000] for s in
                                                          ('tcp', 'gripper', 'objects', 'render')}}
        assert [x['stamp'] for x in batch] == sorted(x['stamp'] for x in batch)
        stamp = batch[-1]['stamp']


def test_lockstep_stands_still_without_a_pair_and_sends_again(lockstep, drivers):
    stamp = drivers.client.info['stamp']
    drivers.command(stamp - 50_000_000)  # of a time that has passed
    drivers.command(stamp, ['arm'])
    for _ in range(3):
        batch = drivers.batches.get(timeout=DEADLINE)
        assert {x['stamp'] for x in batch} == {stamp}
        assert [x['stream'] for x in batch] == list(STREAMS)
    # the deadline has passed: the arm's velocity is zeroed, and the gripper alone completes the pair
    time.sleep(0.2)
    drivers.command(stamp, ['gripper'])
    joints = [x for x in drivers.period_after(stamp) if x['stream'] == 'joints']
    assert max(abs(v) for v in joints[-1]['velocity']) < 0.03


def test_place_between_advances(lockstep, drivers):
    stamp = drivers.client.info['stamp']
    before = drivers.batches.get(timeout=DEADLINE)
    assert drivers.client.place(5, triplet=1) == {'response': 1, 'ok': True, 'error': ''}
    bad = drivers.client.place(5, triplet=8)
    assert not bad['ok'] and bad['error'].startswith('triplet 8 does not exist')
    drivers.command(stamp)
    after = drivers.period_after(stamp)
    assert after[-1]['stamp'] == stamp + 50_000_000
    poses = [[x['poses'] for x in b if x['stream'] == 'objects'][-1] for b in (before, after)]
    assert poses[0] != poses[1]


def test_every_advance_is_announced(world, path):
    announced = queue.Queue()
    with WorldServer(world, path, lockstep=True, on_advance=announced.put):
        d = Drivers(path, ['tcp'])
        stamp = d.client.info['stamp']
        d.command(stamp)
        assert announced.get(timeout=DEADLINE) == stamp
        arrived = d.next_after(stamp)[-1]['stamp']
        assert arrived == stamp + 50_000_000
        while announced.get(timeout=DEADLINE) != arrived:   # until then the old stamp is announced again
            pass
        d.client.close()


def test_real_time_keeps_pace_and_wall_clock(world, path):
    with WorldServer(world, path, rates_hz={'tcp': 50}):
        d = Drivers(path, ['joints', 'tcp'])
        time.sleep(0.5)
        d.client.place(3)
        time.sleep(0.3)
        d.client.close()
        samples = []
        while not d.batches.empty():
            samples += d.batches.get()
    stamps = [x['stamp'] for x in samples]
    assert stamps == sorted(stamps)
    assert abs(time.time_ns() - stamps[-1]) < 1_500_000_000
    joints, tcp = (sum(x['stream'] == s for x in samples) for s in ('joints', 'tcp'))
    assert 30 < joints < 110
    assert abs(joints - 2 * tcp) <= 3


def test_real_time_stamps_do_not_lag_by_what_the_start_took(world, path):
    server = WorldServer(world, path)
    time.sleep(0.3)     # a busy machine
    begun = time.time_ns()
    with server:
        d = Drivers(path, ['joints'])
        stamp = d.batches.get(timeout=DEADLINE)[0]['stamp']
        d.client.close()
    assert begun <= stamp <= time.time_ns()


def test_real_time_watchdog_stops_the_arm_when_the_driver_dies(world, path):
    with WorldServer(world, path):
        d = Drivers(path, ['joints'])
        for _ in range(10):
            d.client.send({'command': 'arm', 'stamp': time.time_ns(), 'velocity': [0.2] * 7})
            time.sleep(0.02)
        moving = d.batches.queue[-1][-1]['velocity'][0]
        d.client.close()
        watcher = Drivers(path, ['joints'])
        time.sleep(1.0)
        still = watcher.batches.queue[-1][-1]['velocity'][0]
        watcher.client.close()
    assert moving > 0.1 and abs(still) < 0.02


def test_a_client_that_does_not_read_blocks_nobody(lockstep, drivers, path):
    lazy = raw(path)
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.send(json.dumps({'hello': 'lazy', 'streams': list(STREAMS)}).encode())
    stamp = drivers.client.info['stamp']
    for _ in range(150):
        drivers.command(stamp)
        stamp = drivers.next_after(stamp)[-1]['stamp']
    lazy.close()
    drivers.command(stamp)
    drivers.next_after(stamp)


@pytest.mark.parametrize('packets, message', [
    ([b'{'], 'is not JSON'),
    ([b'[1]'], 'must be a JSON object'),
    ([b'{"command":"arm","stamp":1,"velocity":[0,0,0,0,0,0,0]}'], 'first packet must be a hello'),
    ([b'{"hello":"a","streams":["smell"]}'], "stream 'smell' does not exist"),
    ([b'{"hello":"a","streams":[]}'] * 2, 'hello twice'),
    ([b'{"hello":"a"}', b'{"command":"arm","stamp":1,"velocity":[1]}'], '7 numbers'),
    ([b'{"hello":"a"}', b'{"command":"gripper","stamp":1,"velocity":NaN}'], 'not a number'),
    ([b'{"hello":"a"}', b'{"request":"dance","id":1}'], "must be 'place'"),
    ([b' ' * 70000], 'longer than 65536'),
])
def test_a_bad_client_is_told_and_dropped_and_the_world_goes_on(lockstep, drivers, path, packets, message):
    with raw(path) as s:
        for p in packets:
            s.send(p)
        answers = []
        while data := s.recv(65536):
            answers.append(json.loads(data))
    assert message in answers[-1]['error']
    stamp = drivers.client.info['stamp']
    drivers.command(stamp)
    drivers.next_after(stamp)


def test_the_client_reports_refusal_loss_and_absence(world, path):
    with pytest.raises(DeviceError, match='no world at'):
        DeviceClient(path, 'early', connect_deadline_s=0.2)
    lost = queue.Queue()
    with WorldServer(world, path, lockstep=True):
        with pytest.raises(DeviceError, match='does not exist'):
            DeviceClient(path, 'wrong', ['smell'])
        d = Drivers(path, on_lost=lost.put)
        with pytest.raises(OSError, match='already listens'):
            WorldServer(world, path)
    assert 'gone' in lost.get(timeout=DEADLINE)
    with pytest.raises(DeviceError):
        d.client.send({'command': 'gripper', 'stamp': 0, 'velocity': 0})
    with pytest.raises(DeviceError):
        d.client.place(1)
    d.client.close()
    with WorldServer(world, path, lockstep=True):  # the path is free again
        DeviceClient(path, 'late').close()


def test_bad_settings_are_refused(world, path):
    with pytest.raises(ValueError, match='100 Hz divided by'):
        WorldServer(world, path, rates_hz={'joints': 30})
    with pytest.raises(ValueError, match="stream 'smell'"):
        WorldServer(world, path, rates_hz={'smell': 10})
    with pytest.raises(ValueError, match='lockstep_deadline_s'):
        WorldServer(world, path, lockstep_deadline_s=0)
    with pytest.raises(OSError, match='cannot listen at'):
        WorldServer(world, '/' + 'x' * 200)


def test_command_line(path):
    run = subprocess.run([sys.executable, '-m', 'chef_sim.server', '--socket', path, '--triplet', '9'],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1] == 'chef_sim: triplet 9 does not exist, choose one of 1..5'
    with subprocess.Popen([sys.executable, '-m', 'chef_sim.server', '--socket', path, '--physics', 'fast',
                           '--lockstep'], stderr=subprocess.DEVNULL) as process:
        with DeviceClient(path, 'test', connect_deadline_s=30) as client:
            assert client.info['lockstep']
        process.terminate()
        assert process.wait(timeout=10) == 0
