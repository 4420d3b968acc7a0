# SPDX-License-Identifier: Apache-2.0
import queue
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_sim.client import DeviceClient
from chef_sim.faults import KINDS, Fault, Faults
from chef_sim.server import WorldServer

MS = 1_000_000
PERIOD = 10 * MS


def wrench(k: int) -> dict:
    return {'stream': 'wrench', 'stamp': k * PERIOD, 'force': [float(k), 1.0, 2.0], 'torque': [0.0, 0.0, 0.0]}


def gripper(k: int) -> dict:
    return {'stream': 'gripper', 'stamp': k * PERIOD, 'position': 7, 'velocity': 0.5, 'grasp': 1}


def stream(faults: Faults, count: int, client='a', make=wrench, start: int = 0) -> list[tuple[int, dict]]:
    """(slice of arrival, sample) of what arrives of one sample a slice."""
    out = []
    for k in range(start, start + count):
        samples = [make(k)]
        if faults.any(k * PERIOD):
            samples = faults.alter(client, samples, k * PERIOD)
        out += [(k, s) for s in samples]
    return out


def test_nothing_is_faulty_unless_asked_for():
    assert stream(Faults(), 5) == [(k, wrench(k)) for k in range(5)]


def test_frozen_stamps_advance_and_content_repeats():
    faults = Faults()
    faults.start(Fault('freeze', 'wrench', duration_s=0.03), 2 * PERIOD)
    got = [s for _, s in stream(faults, 8, start=2)]
    assert [s['stamp'] for s in got] == [k * PERIOD for k in range(2, 10)]
    assert [s['force'][0] for s in got] == [2, 2, 2, 5, 6, 7, 8, 9]
    assert not faults.any(10 * PERIOD)


def test_one_client_alone_and_one_stream_alone():
    faults = Faults()
    faults.start(Fault('silence', 'wrench', client='b'), 0)
    assert faults.alter('a', [wrench(1), gripper(1)], PERIOD) == [wrench(1), gripper(1)]
    assert faults.alter('b', [wrench(1), gripper(1)], PERIOD) == [gripper(1)]
    faults.clear()
    assert not faults.any(PERIOD)


def test_values_that_cannot_be():
    faults = Faults()
    faults.start(Fault('nan', 'gripper'), 0)
    assert faults.alter('a', [gripper(1)], 0) == [{**gripper(1), 'velocity': None}]
    faults.clear()
    faults.start(Fault('absurd', 'wrench', amount=1e6), 0)
    assert faults.alter('a', [wrench(3)], 0)[0]['torque'] == [1e6] * 3
    faults.clear()
    faults.start(Fault('spike', 'wrench', amount=-50.0), 0)
    assert faults.alter('a', [wrench(3)], 0) == [{**wrench(3), 'force': [0.0, 0.0, -50.0]}]
    faults.clear()
    faults.start(Fault('clock_jump', amount=-0.01), 0)
    assert [s['stamp'] for s in faults.alter('a', [wrench(3), gripper(3)], 0)] == [2 * PERIOD, 2 * PERIOD]


def test_a_delay_loses_nothing_and_keeps_the_order():
    faults = Faults()
    faults.start(Fault('delay', 'wrench', amount=0.05, duration_s=0.1), 0)
    got = stream(faults, 30)
    assert [s['stamp'] for _, s in got] == [k * PERIOD for k in range(30)]
    late = [k - s['stamp'] // PERIOD for k, s in got]
    assert late[:10] == [5] * 10 and late[15:] == [0] * 15
    assert not faults.any(30 * PERIOD)


@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
@settings(max_examples=20, deadline=None)
def test_drops_are_random_but_repeat(seed, share):
    runs = []
    for _ in range(2):
        faults = Faults()
        faults.start(Fault('drop', amount=share, seed=seed), 0)
        runs.append(stream(faults, 200))
    assert runs[0] == runs[1]
    assert abs(len(runs[0]) / 200 - (1 - share)) < 0.2


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=8), st.floats(), st.floats())
@settings(max_examples=200, deadline=None)
def test_a_fault_is_valid_or_a_value_error(kind, name, amount, duration):
    try:
        fault = Fault(kind, name, amount=amount, duration_s=duration)
    except ValueError as e:
        assert '\n' not in str(e)
        return
    faults = Faults()
    faults.start(fault, 0)
    for sample in faults.alter('a', [wrench(1)], PERIOD):
        assert set(sample) == set(wrench(1)) and sample['stamp'] >= 0


@pytest.mark.parametrize('lockstep', [False, True])
def test_the_server_obeys_and_forgets(world, tmp_path, lockstep):
    path = str(tmp_path / 'world.sock')
    with WorldServer(world, path, lockstep=lockstep):
        heard, others = queue.Queue(), queue.Queue()
        one = DeviceClient(path, 'one', ['wrench'], heard.put)
        other = DeviceClient(path, 'other', ['wrench'], others.put)
        answer = one.fault('nan', stream='wrench', client='one')
        assert answer['ok'] and answer['stamp'] >= one.info['stamp']

        def wait_for(samples: queue.Queue, nan: bool) -> None:
            end = time.monotonic() + 10
            while time.monotonic() < end:
                (*_, sample) = samples.get(timeout=10)
                if (sample['force'][0] != sample['force'][0]) == nan:
                    return
            raise AssertionError('never')

        wait_for(heard, nan=True)
        wait_for(others, nan=False)
        one.fault('clear')
        wait_for(heard, nan=False)
        while not others.empty():
            assert all(s['force'][0] == s['force'][0] for s in others.get())
        one.close()
        other.close()
