# SPDX-License-Identifier: Apache-2.0
"""The schedulers: what they draw, what SAC-Q learns, and what is kept of it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_learning.config import ScheduleConfig
from chef_learning.schedule import SlotScheduler
from chef_learning.schedule_view import main


def play(schedule, rewards):
    """An episode in which the main task gets `rewards(chosen tasks, step)` after every step; the slots' tasks."""
    schedule.reset()
    tasks = []
    for t in range(12):
        tasks.append(schedule.task(t))
        schedule.reward(rewards(tasks, t))
    schedule.end()
    return tasks[::4]


def test_a_task_acts_for_a_whole_slot_and_sac_u_draws_evenly():
    schedule, counts = SlotScheduler(6, ScheduleConfig(kind='sac_u', period=4), 0), np.zeros(6)
    for _ in range(400):
        slots = play(schedule, lambda tasks, t: 1.0)
        assert len(slots) == 3
        counts += np.bincount(slots, minlength=6)
    assert counts.min() > 0.8 * counts.max()


def test_sac_q_finds_the_order_that_pays():
    """Only task 2 followed by task 1 pays, in the last slot."""
    config = ScheduleConfig(period=4, temperature=1.0, temperature_decay=0.99, temperature_min=0.05)
    schedule = SlotScheduler(3, config, seed=1)
    for _ in range(400):
        play(schedule, lambda tasks, t: float(t >= 8 and tasks[0] == 2 and tasks[4] == 1))
    assert schedule.probabilities(())[2] > 0.8 and schedule.probabilities((2,))[1] > 0.8
    assert schedule.table[((2, 1), 0)] == pytest.approx(4.0)     # all of the last slot


@given(st.lists(st.floats(0, 1), min_size=1, max_size=13), st.floats(0.5, 1.0))
def test_tail_returns_are_those_of_the_definition(rewards, discount):
    schedule = SlotScheduler(2, ScheduleConfig(period=4, discount=discount, rate=0.25), seed=0)
    for _ in range(2):
        schedule.reset()
        for t, r in enumerate(rewards):
            schedule.task(t)
            schedule.reward(r)
        chosen = list(schedule._chosen)
        before = dict(schedule.table)
        schedule.end()
        for slot, task in enumerate(chosen):
            expected = sum(discount ** t * r for t, r in enumerate(rewards) if t >= 4 * slot)
            key = (tuple(chosen[:slot]), task)
            if key in before:
                expected = before[key] + 0.25 * (expected - before[key])
            assert schedule.table[key] == pytest.approx(expected)


def test_probabilities_are_boltzmanns_scaled_to_the_largest_return():
    schedule = SlotScheduler(2, ScheduleConfig(temperature=0.5, temperature_decay=1.0), seed=0)
    schedule.table = {((), 0): 40.0, ((), 1): 20.0}
    weights = np.exp(np.array([1.0, 0.5]) / 0.5)
    np.testing.assert_allclose(schedule.probabilities(()), weights / weights.sum())
    np.testing.assert_allclose(schedule.probabilities((1,)), [0.5, 0.5])


def test_the_temperature_is_annealed_to_its_least():
    schedule = SlotScheduler(2, ScheduleConfig(period=4, temperature_decay=0.5, temperature_min=0.2), seed=0)
    seen = [schedule.temperature]
    for _ in range(4):
        play(schedule, lambda tasks, t: 0.0)
        seen.append(schedule.temperature)
    assert seen == [1.0, 0.5, 0.25, 0.2, 0.2]


def test_what_was_learned_is_kept_and_every_episode_told(tmp_path):
    path, config = tmp_path / 'schedule' / 'cell_1.json', ScheduleConfig(period=4)
    first = SlotScheduler(3, config, seed=0, path=path)
    for _ in range(3):
        play(first, lambda tasks, t: 0.1)
    again = SlotScheduler(3, config, seed=0, path=path)
    assert again.table == first.table and again.episodes == 3
    lines = [json.loads(line) for line in path.with_suffix('.jsonl').read_text().splitlines()]
    assert [line['episode'] for line in lines] == [1, 2, 3]
    assert all(len(line['tasks']) == len(line['returns']) == 3 for line in lines)
    assert lines[0]['returns'][0] == pytest.approx(1.2)


def test_an_episode_that_was_broken_off_teaches_nothing():
    schedule = SlotScheduler(3, ScheduleConfig(period=4), seed=0)
    schedule.task(0)
    schedule.reward(1.0)
    schedule.reset()
    schedule.end()
    assert not schedule.table and schedule.episodes == 0


@pytest.mark.parametrize('text', ['', '[', '[]', '{}', '{"tasks": 3, "episodes": 1, "table": [[1]]}',
                                  '{"tasks": 2, "episodes": 1, "table": []}', '\x00',
                                  '{"tasks": 3, "episodes": 1, "table": [[[], 0, NaN]]}'])
def test_a_damaged_file_is_one_clear_error(tmp_path, text):
    path = tmp_path / 'cell_1.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='cell_1.json') as e:
        SlotScheduler(3, ScheduleConfig(), 0, path)
    assert '\n' not in str(e.value)


def test_what_was_learned_can_be_looked_at(tmp_path, capsys):
    path = tmp_path / 'schedule' / 'cell_1.json'
    schedule = SlotScheduler(6, ScheduleConfig(period=4), seed=0, path=path)
    for _ in range(5):
        play(schedule, lambda tasks, t: 0.5)
    assert main([str(tmp_path), '--output', str(tmp_path / 'x.png')]) == 0
    out = capsys.readouterr().out
    assert 'cell_1: 5 episodes' in out and '6.000' in out
    assert (tmp_path / 'x.png').read_bytes().startswith(b'\x89PNG')
    path.write_text('[]')
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / 'nowhere')]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and 'cell_1.json' in errors[0]
