# SPDX-License-Identifier: Apache-2.0
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_sim.faults import KINDS, Fault
from chef_sim.protocol import (Command, Hello, Inject, Place, ProtocolError, decode, encode, encode_sample, join_batch,
                               parse)
from chef_sim.world import STREAMS

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20)
keys = st.sampled_from('hello streams command stamp velocity request id seed triplet kind stream client amount duration_s'.split())
words = st.sampled_from(['arm', 'gripper', 'place', 'fault', 'clear', *KINDS, *STREAMS])
packets = st.dictionaries(keys, values | words | st.lists(st.floats() | words, max_size=8), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | packets.map(lambda p: json.dumps(p).encode()) |
       st.integers(1, 3000).map(lambda n: b'[' * n) | st.integers(1, 9000).map(lambda n: b'9' * n))
def test_garbage_is_a_one_line_error_or_a_valid_packet(data):
    try:
        packet = parse(data)
    except ProtocolError as e:
        assert str(e) and '\n' not in str(e) and len(str(e)) < 300
        return
    if isinstance(packet, Hello):
        assert packet.name and set(packet.streams) <= set(STREAMS)
    elif isinstance(packet, Command):
        assert len(packet.velocity) == (7 if packet.device == 'arm' else 1)
        assert all(abs(v) <= 1e9 for v in packet.velocity) and packet.stamp_ns >= 0
    elif isinstance(packet, Inject):
        assert packet.fault is None or packet.fault.kind in KINDS
    else:
        assert isinstance(packet, Place) and packet.seed >= 0 and packet.id >= 0


def test_good_packets():
    assert parse(b'{"hello":"a","streams":["joints"]}') == Hello('a', ('joints',))
    assert parse(b'{"command":"arm","stamp":5,"velocity":[1,2,3,4,5,6,7.5]}') == Command(
        'arm', 5, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5))
    assert parse(b'{"command":"gripper","stamp":5,"velocity":-1}') == Command('gripper', 5, (-1.0,))
    assert parse(b'{"request":"place","id":3,"seed":7,"triplet":2}') == Place(3, 7, 2)
    assert parse(b'{"request":"place","id":3,"seed":7}') == Place(3, 7, None)


def test_faults_are_asked_for_by_name():
    assert parse(b'{"request":"fault","id":3,"kind":"clear"}') == Inject(3, None)
    assert parse(b'{"request":"fault","id":3,"kind":"spike","stream":"wrench","amount":50,"duration_s":0.1}') == \
        Inject(3, Fault('spike', 'wrench', '', 50.0, 0.1, 0))
    for bad in ({'kind': 'melt'}, {'kind': 'freeze', 'stream': 'nose'}, {'kind': 'drop', 'amount': 2},
                {'kind': 'spike', 'stream': 'joints', 'amount': 5}, {'kind': 'nan', 'stream': 'render'},
                {'kind': 'delay', 'amount': -1}, {'kind': 'freeze', 'duration_s': -1}, {'kind': ['freeze']}):
        with pytest.raises(ProtocolError):
            parse(json.dumps({'request': 'fault', 'id': 1, **bad}).encode())


def test_a_missing_reading_arrives_as_nan():
    sample = {'stream': 'wrench', 'stamp': 6, 'force': [1.0, None, 2.0]}
    (there,) = decode(join_batch(7, [encode_sample(sample)]))['samples']
    assert there['stamp'] == 6 and there['force'][0::2] == [1.0, 2.0] and math.isnan(there['force'][1])


def test_batches_and_limits():
    batch = join_batch(7, [encode_sample({'stream': 'a', 'stamp': 6}), encode_sample({'stream': 'b'})])
    assert json.loads(batch) == {'stamp': 7, 'samples': [{'stream': 'a', 'stamp': 6}, {'stream': 'b'}]}
    with pytest.raises(ValueError):
        encode({'x': float('nan')})
    with pytest.raises(ProtocolError, match='longer than'):
        encode({'x': 'y' * 70000})
