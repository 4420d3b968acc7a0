# SPDX-License-Identifier: Apache-2.0
"""What an experiment has cells do: a cell's run has what is in its hand, and says that it lives; what is damaged passes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_task.orders import COLLECT, EXECUTE, FILE, KINDS, ORDER, Follower, Order, publish, read_plan
from chef_task.storage import Storage, StorageError

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3))


def policy(folder, text):
    folder.mkdir(parents=True)
    (folder / 'policy.json').write_text(text)
    return folder


def read(run):
    return json.loads((run / FILE).read_text())


def test_a_cell_has_what_is_in_its_hand_and_nothing_of_others(tmp_path):
    storage = Storage(tmp_path / 'storage')
    follower = Follower(Storage(storage.url), '/lab/cell_1', tmp_path / 'run', sign_s=0.0)
    follower.round()
    assert 'no storage (yet)' in follower.error and not (tmp_path / 'run').exists()
    storage.create()
    follower.round()
    assert not follower.error and read(tmp_path / 'run')['kind'] == COLLECT     # a fleet's storage, without a stage
    policies = {name: policy(tmp_path / name / 'v000007', name) for name in ('a', 'stage/b')}
    trials = [('a', 5), ('stage/b', 5), ('a', 6)]
    plan = publish(storage, '03_execute', trials, policies)
    assert publish(storage, '03_execute', trials, policies) == plan and storage.names('plans') == [plan]
    hands = {'lab_cell_1': (1,), 'cell_2': (0, 2)}
    storage.write_note(ORDER, Order(EXECUTE, '03_execute', 1, 20, 'lift', plan, hands).encode())
    follower.round()
    got = read(tmp_path / 'run')
    assert (got['kind'], got['steps'], got['task'], got['triplet'], len(got['trials'])) == (EXECUTE, 20, 'lift', 1, 1)
    t = got['trials'][0]
    assert (t['number'], t['candidate'], t['seed']) == (1, 'stage/b', 5)
    assert t['policy'].endswith('/v000007') and open(f'{t["policy"]}/policy.json').read() == 'stage/b'
    assert len(list((tmp_path / 'run').glob('contestants/*/*/v*'))) == 1        # the other's policy was not fetched
    signs = [storage.note('cells/lab_cell_1')]
    follower.round()
    assert storage.notes('cells') == ['lab_cell_1'] and storage.note('cells/lab_cell_1') not in signs
    assert [w for w, _ in follower.take_events()] == [True, False, False]

    (tmp_path / 'storage' / 'notes' / 'order.json').write_text('{"kind": "exec')
    follower.round()
    assert 'damaged' in follower.error and read(tmp_path / 'run') == got
    (tmp_path / 'a' / 'v000007' / 'policy.json').write_text('learned anew')
    assert publish(storage, '03_execute', trials, policies) != plan             # and that plan's policies are untouched
    assert {t.seed for t in read_plan(tmp_path / 'run' / 'plans' / plan).values()} == {5, 6}


@given(JSON | st.fixed_dictionaries({'kind': st.sampled_from(KINDS) | JSON}, optional={
    'stage': st.just('a') | JSON, 'hands': st.dictionaries(st.text(), JSON, max_size=2) | JSON, 'steps': JSON, 'task': JSON}))
def test_an_order_is_one_or_is_refused(values):
    try:
        order = Order.decode(values)
    except ValueError as e:
        assert str(e) == 'not an order'
    else:
        assert Order.decode(json.loads(json.dumps(order.encode()))) == order


def test_a_cell_without_a_name_is_refused(tmp_path):
    with pytest.raises(StorageError, match='cannot be the name of a cell'):
        Follower(Storage(tmp_path), '/.', tmp_path)
