# SPDX-License-Identifier: Apache-2.0
"""What this cell is to run next: trials in order and once, episodes, or nothing; without a storage's word it collects."""

import json
import os

import pytest

from chef_control.orders import Orders, Task
from chef_task.orders import FILE
from chef_task.whole_file import write_json

COLLECT = {'kind': 'collect', 'stage': '01_collect', 'triplet': 1, 'steps': 0, 'task': '', 'plan': '', 'trials': []}


def trials(*numbers):
    given = [{'number': n, 'candidate': f'c{n}', 'policy': f'/p/{n}', 'seed': 10 + n} for n in numbers]
    return {**COLLECT, 'kind': 'execute', 'stage': '03_execute', 'steps': 20, 'task': 'lift', 'plan': '03_execute-ab',
            'trials': given}


def test_trials_are_run_once_whatever_the_storage_still_says(tmp_path):
    (tmp_path / 'contestants' / '03_execute-ab').mkdir(parents=True)
    orders = Orders(tmp_path, 100.0)
    assert orders.next() is None and 'waits' in orders.why
    write_json(tmp_path / FILE, trials(4, 1))
    first = orders.next()
    assert (first.number, first.policy, first.task, first.seed, first.steps) == (4, '/p/4', 'lift', 14, 20)
    assert json.loads(first.about) == {'stage': '03_execute', 'plan': '03_execute-ab', 'trial': 4, 'candidate': 'c4'}
    assert orders.next() == first       # until it is done
    orders.done(first, 'episode_a')
    assert orders.next().number == 1 and Orders(tmp_path, 0.0).next().number == 1   # also after a restart
    orders.done(orders.next(), 'episode_b')
    assert orders.next() is None and orders.why == 'waits for further trials'
    write_json(tmp_path / FILE, trials(4, 2))
    assert orders.next().number == 2
    write_json(tmp_path / FILE, {**COLLECT, 'kind': 'rest'})
    assert orders.next() is None and 'rests' in orders.why
    write_json(tmp_path / FILE, COLLECT)
    assert orders.next() == Task(triplet=1, about='{"stage": "01_collect"}')


@pytest.mark.parametrize('text', ['', '[]', '{"kind": "dance"}'])
def test_what_cannot_be_read_and_a_storage_that_is_away_hold_nobody_up(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert Orders(tmp_path, 100.0).next() is None
    assert Orders(tmp_path, 0.0).next() == Task()


def test_an_order_from_before_counts_once_none_is_expected_any_more(tmp_path):
    write_json(tmp_path / FILE, trials(3))
    os.utime(tmp_path / FILE, (1, 1))
    assert Orders(tmp_path, 100.0).next() is None
    assert Orders(tmp_path, 0.0).next().number == 3
