# SPDX-License-Identifier: Apache-2.0
"""The episode machine, driven by hand: no ROS, no clock."""

from __future__ import annotations

import numpy as np
import pytest
from episode_cell import STREAMS_USED, Cell, sample

from chef_control.episode_types import Phase
from chef_task.records import Reason
from chef_task.spaces import CONTROL_PERIOD_NS

@pytest.mark.parametrize('lockstep', [False, True])
def test_a_whole_episode_is_recorded_step_by_step(lockstep):
    cell = Cell(lockstep)
    outcome = cell.run()
    assert outcome.reason == 'time_limit' and outcome.steps == 3
    assert [s.index for s in cell.ports.steps] == [0, 1, 2, 3]
    assert [s.last for s in cell.ports.steps] == [False, False, False, True]
    assert all(s.discount == 1.0 for s in cell.ports.steps)
    np.testing.assert_allclose(cell.ports.steps[1].last_action, cell.ports.steps[0].action)
    assert np.diff([s.stamp for s in cell.ports.steps]).tolist() == [CONTROL_PERIOD_NS] * 3
    assert cell.machine.phase is Phase.SEALING
    cell.recorder('sealed')
    cell.poll()
    assert cell.machine.phase is Phase.DONE and outcome.bag == '/bag' and not outcome.error


@pytest.mark.parametrize('state', ['failed', 'quarantined'])
def test_an_episode_without_a_sound_bag_is_a_failed_try_with_its_reason(state):
    cell = Cell(lockstep=True)
    outcome = cell.run()
    cell.machine.on_recorder('e1', state, '/quarantine/bag', 'what the audit found', cell.messages, cell.mono)
    cell.poll()
    assert cell.machine.phase is Phase.DONE and not outcome.bag
    assert outcome.error == 'recorder: what the audit found'


def test_returns_are_the_sum_of_the_steps_rewards():
    cell = Cell(lockstep=True)
    outcome = cell.run()
    np.testing.assert_allclose(outcome.returns, sum(s.rewards for s in cell.ports.steps))


def test_lockstep_ticks_only_when_every_stream_has_arrived():
    cell = Cell(lockstep=True)
    cell.ready()
    cell.poll()
    cell.act()
    cell.advance()
    for s in STREAMS_USED[:-1]:
        cell.machine.on_sample(s, cell.now, sample(s), cell.now)
        cell.poll()
    assert len(cell.ports.ticks) == 1
    cell.machine.on_sample(STREAMS_USED[-1], cell.now, sample(STREAMS_USED[-1]), cell.now)
    cell.poll()
    assert len(cell.ports.ticks) == 2
    assert set(cell.ports.ticks[-1][2].values()) == {cell.now}


@pytest.mark.parametrize('stream', STREAMS_USED)
def test_a_silent_stream_ends_the_episode_with_its_name(stream):
    cell = Cell(lockstep=False)
    cell.ready()
    cell.poll()
    cell.act()
    cell.advance(6)
    for s in STREAMS_USED:
        if s != stream:
            cell.machine.on_sample(s, cell.now, sample(s), cell.now)
    cell.beat()
    cell.poll()
    assert cell.machine.outcome.reason == f'stale_sensor:{stream} silent for 300 ms'
    assert cell.ports.commands[-1][2] is False


def test_a_force_over_the_limit_terminates_with_discount_zero():
    cell = Cell(lockstep=True)
    cell.ready()
    cell.poll()
    cell.act()
    cell.advance()
    cell.samples(wrench={'force': np.array([0.0, 0.0, -21.0])})
    cell.poll()
    assert Reason.of(cell.machine.outcome.reason) is Reason.FORCE_LIMIT
    assert cell.ports.steps[-1].last and cell.ports.steps[-1].discount == 0.0
    assert cell.machine.outcome.peak_force_n == pytest.approx(21.0)


@pytest.mark.parametrize('action', [(np.nan, 0, 0, 0, 0), (0, 0, 0), (np.inf, 0, 0, 0, 0)])
def test_an_invalid_action_never_becomes_a_command(action):
    cell = Cell(lockstep=False)
    cell.ready()
    cell.poll()
    cell.act(action)
    assert Reason.of(cell.machine.outcome.reason) is Reason.POLICY_INVALID
    assert [move for _, _, move in cell.ports.commands] == [False]


def test_a_late_policy_ends_the_episode_and_its_answer_is_ignored():
    cell = Cell(lockstep=False)
    cell.ready()
    cell.poll()
    cell.advance()
    cell.samples()
    cell.poll()
    assert Reason.of(cell.machine.outcome.reason) is Reason.POLICY_LATE
    calls = len(cell.ports.calls)
    cell.act()
    assert len(cell.ports.calls) == calls


def test_the_arm_is_stopped_before_anything_is_recorded():
    cell = Cell(lockstep=False)
    cell.ready()
    cell.poll()
    cell.machine.on_safety('stale_command:120 ms', cell.now)
    assert cell.ports.calls[-3:] == ['hold', 'step', 'end']
    assert cell.machine.outcome.reason == 'stale_command:120 ms'


@pytest.mark.parametrize('peer, reason', [('safety', Reason.SAFETY_LOST), ('recorder', Reason.RECORDER_LOST)])
def test_a_lost_heartbeat_ends_the_episode(peer, reason):
    cell = Cell(lockstep=False, steps=100)
    cell.ready()
    for _ in range(30):
        cell.poll()
        if cell.machine.phase is not Phase.ACTING:
            break
        cell.act()
        cell.advance()
        cell.samples()
        if peer != 'safety':
            cell.machine.on_safety('', cell.now)
        else:
            cell.recorder()
    assert Reason.of(cell.machine.outcome.reason) is reason


@pytest.mark.parametrize('missing, text', [('policy', 'policy'), ('recorder', 'recorder'), ('wrench', 'wrench')])
def test_what_is_not_ready_is_named(missing, text):
    cell = Cell(lockstep=False)
    cell.machine.begin(cell.goal, cell.now, cell.now)
    cell.samples(without=[missing])
    cell.machine.on_safety('', cell.now)
    if missing != 'policy':
        cell.machine.on_policy('e1', True, '')
    if missing != 'recorder':
        cell.recorder()
    cell.poll()
    assert cell.machine.phase is Phase.PREPARING
    cell.advance(40)
    cell.samples(without=[missing])
    cell.poll()
    assert text in cell.machine.outcome.error
    assert not cell.ports.ticks and not cell.ports.commands


def test_cancel_between_ticks_records_the_newest_state_as_the_last():
    cell = Cell(lockstep=True)
    cell.ready()
    cell.poll()
    cell.act()
    cell.machine.cancel()
    assert [s.index for s in cell.ports.steps] == [0, 1]
    assert cell.ports.steps[-1].last and cell.ports.steps[-1].stamp > cell.ports.steps[0].stamp


def test_a_second_episode_cannot_begin_during_the_first():
    cell = Cell(lockstep=True)
    cell.ready()
    with pytest.raises(RuntimeError, match='under way'):
        cell.machine.begin(cell.goal, cell.now, cell.now)
