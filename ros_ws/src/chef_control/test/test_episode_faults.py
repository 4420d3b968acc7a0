# SPDX-License-Identifier: Apache-2.0
"""Whatever fails, the episode ends with the reason that is true, and the next one can begin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from episode_cell import MS, STREAMS_USED, Cell

from chef_control.episode_types import Goal, Phase, Waits
from chef_task.spaces import CONTROL_PERIOD_NS

BOTH = pytest.mark.parametrize('lockstep', [False, True], ids=['real_time', 'lockstep'])


def running(lockstep: bool, steps: int = 1000, observation: str = 'state') -> Cell:
    """A cell in mid-episode, with a tick due."""
    cell = Cell(lockstep, steps, observation)
    cell.ready()
    for _ in range(3):
        cell.step()
    return cell


def ended(cell: Cell) -> str:
    """Why the episode ended; it must have, with the arm told to hold and a last Step without NaN."""
    assert cell.machine.phase is Phase.SEALING
    assert cell.ports.calls[-3:] == ['hold', 'step', 'end']
    last = cell.ports.steps[-1]
    assert last.last and np.isfinite(last.rewards).all()
    assert last.stamp > cell.ports.steps[-2].stamp
    return cell.machine.outcome.reason


def go_on(cell: Cell) -> None:
    """The next episode runs as if nothing had been."""
    cell.recorder('sealed')
    cell.poll()
    assert cell.machine.phase is Phase.DONE
    cell.goal = Goal('e1', 1, 8, 3)
    assert cell.run().reason == 'time_limit'


BAD = {
    'joints': [({'position': np.full(7, np.nan)}, 'position is not finite'),
               ({'velocity': np.array([0, 0, np.nan, 0, 0, 0, 0])}, 'velocity is not finite'),
               ({'effort': np.full(7, 301.0)}, 'effort is 301 N m, its range ends at 300'),
               ({'effort': np.full(7, -np.inf)}, 'effort is not finite')],
    'tcp_pose': [({'pose': np.array([0, 0, 3.0, 1, 0, 0, 0])}, 'position is 3 m, its range ends at 2'),
                 ({'pose': np.zeros(7)}, 'quaternion has length 0')],
    'tcp_twist': [({'twist': np.full(6, np.nan)}, 'twist is not finite')],
    'gripper': [({'position': np.array([300.0])}, 'position is 300'), ({'grasp': np.array([0.0])}, 'grasp flag is 0')],
    'wrench': [({'force': np.array([np.nan, 0, 0])}, 'of nan N'), ({'force': np.full(3, 1e6)}, 'of 1732051 N'),
               ({'torque': np.array([0, 0, 101.0])}, 'of 0 N, 101 N m')],
    'objects': [({'poses': np.full((3, 7), 5.0)}, 'position is 5 m'),
                ({'poses': np.zeros((3, 7))}, 'quaternion has length 0')],
}


@BOTH
@pytest.mark.parametrize('stream, values, text', [(s, *case) for s, cases in BAD.items() for case in cases])
def test_an_absurd_sample_ends_the_episode_and_is_not_its_last_state(lockstep, stream, values, text):
    cell = running(lockstep)
    cell.step(**{stream: values})
    cell.poll()
    assert ended(cell).startswith(f'bad_sensor:{stream} {text}')
    last, before = cell.ports.steps[-1], cell.ports.steps[-2]
    assert last.stamps[stream] == before.stamps[stream]
    assert all(last.stamps[s] > before.stamps[s] for s in STREAMS_USED if s != stream)
    assert cell.machine.outcome.peak_force_n < 1.0
    cell.advance()
    go_on(cell)


def test_an_absurd_force_counts_even_if_no_tick_names_it():
    cell = running(lockstep=False)
    cell.machine.on_sample('wrench', cell.now + MS, cell.sample('wrench', force=np.full(3, np.nan)), cell.mono)
    cell.machine.on_sample('wrench', cell.now + 2 * MS, cell.sample('wrench'), cell.mono)
    cell.poll()
    assert ended(cell) == 'bad_sensor:wrench of nan N'


def test_an_image_of_one_colour_is_none():
    cell = running(lockstep=True, observation='pixels')
    cell.step(basket_back_left={'image': np.full((128, 128, 3), (0, 0, 9), np.uint8)})
    cell.poll()
    assert ended(cell) == 'bad_sensor:basket_back_left image is one colour, (0, 0, 9)'


def test_a_sample_that_cannot_be_decoded_is_bad():
    class Broken(dict):
        def __getitem__(self, key):
            raise ValueError('image is mono8 with step 128, expected rgb8 without padding')

    cell = running(lockstep=False, observation='pixels')
    cell.poll()
    cell.act()
    cell.advance()
    cell.samples(without=['basket_back_left'])
    cell.machine.on_sample('basket_back_left', cell.now, Broken(), cell.mono)
    cell.poll()
    assert ended(cell).startswith('bad_sensor:basket_back_left image is mono8')


@pytest.mark.parametrize('stream', STREAMS_USED)
def test_a_driver_that_sends_old_stamps_is_told_from_a_silent_one(stream):
    cell = running(lockstep=False)
    stuck = cell.now
    while cell.machine.phase is not Phase.SEALING:
        cell.step(stamps={stream: stuck})
    assert ended(cell).startswith(f'stale_sensor:{stream} stamps are ')
    assert cell.now - stuck <= (cell.machine._limits.sensor_age_s[stream] + 0.1) * 1e9


def test_a_silent_sensor_ends_lockstep_when_its_deadline_is_over():
    cell = running(lockstep=True)
    cell.poll()
    cell.act()
    cell.advance()
    cell.samples(without=['objects'])
    cell.poll()
    assert cell.machine.phase is Phase.TICKING
    cell.mono += 1001 * MS
    cell.poll()
    assert ended(cell) == 'stale_sensor:objects silent for 1 s'


@BOTH
@pytest.mark.parametrize('stream', ['joints', 'tcp_pose', 'tcp_twist', 'wrench', 'objects'])
def test_content_that_repeats_is_frozen(lockstep, stream):
    cell = running(lockstep)
    same = cell.sample(stream)
    start, limit = cell.now, cell.machine._limits.frozen_s[stream]
    while cell.machine.phase is not Phase.SEALING:
        cell.step(**{stream: same})
    assert ended(cell).startswith(f'stale_sensor:{stream} is frozen: the same content for')
    assert limit < (cell.now - start) * 1e-9 <= limit + 0.2


@BOTH
def test_stamps_that_go_back_are_a_clock_that_jumped(lockstep):
    cell = running(lockstep)
    cell.poll()
    cell.act()
    cell.advance()
    cell.samples(stamps={'joints': cell.now - 170 * MS})
    cell.poll()
    assert ended(cell) == 'clock_jump:joints stamps went back by 120 ms'
    assert cell.ports.steps[-1].stamps['joints'] == cell.ports.steps[-2].stamps['joints']
    cell.advance()
    go_on(cell)


def test_stamps_ahead_of_the_clock_end_the_episode():
    cell = running(lockstep=False)
    cell.step(stamps={'wrench': cell.now + 2000 * MS})
    cell.poll()
    assert ended(cell) == 'clock_jump:wrench stamps are 1950 ms ahead of the clock'
    assert cell.ports.steps[-1].stamps['wrench'] <= cell.ports.steps[-1].stamp


@pytest.mark.parametrize('devices_too', [False, True])
@pytest.mark.parametrize('jump_ms, text', [(-10_000, 'back by 10000 ms'), (10_000, 'on by 10000 ms')])
def test_a_step_of_the_wall_clock_is_told_as_what_it_is(jump_ms, text, devices_too):
    cell = running(lockstep=False)
    before = cell.now
    cell.poll()
    cell.act()
    cell.advance()
    right = cell.now
    cell.now += jump_ms * MS
    cell.samples(stamps=None if devices_too else dict.fromkeys(STREAMS_USED, right))
    cell.beat()
    cell.poll()
    assert ended(cell) == f'clock_jump:the wall clock went {text}'
    last = cell.ports.steps[-1]
    assert last.stamp == before + CONTROL_PERIOD_NS    # the bag keeps to one clock
    assert all(last.stamp - 2 * CONTROL_PERIOD_NS <= s <= last.stamp for s in last.stamps.values())
    cell.advance()
    go_on(cell)


@pytest.mark.parametrize('state, reason', [
    ('idle', 'recorder_lost:it is idle in mid-episode'), ('sealed', 'recorder_lost:it is sealed in mid-episode'),
    ('failed', 'recorder_lost:disk full')])
def test_a_recorder_that_stops_recording_ends_the_episode_at_once(state, reason):
    cell = running(lockstep=False)
    cell.poll()
    cell.recorder(state, 'disk full' if state == 'failed' else '')
    assert ended(cell) == reason


def test_a_recorder_that_lives_but_writes_nothing_is_lost_within_a_second():
    cell = running(lockstep=False)
    start = cell.mono
    while cell.machine.phase is not Phase.SEALING:
        cell.poll()
        cell.act()
        cell.advance()
        cell.samples()
        cell.machine.on_safety('', cell.mono)
        cell.recorder(grows=False)
    assert ended(cell).startswith('recorder_lost:nothing written for 8')
    assert 0.8e9 < cell.mono - start <= 1.0e9


@BOTH
def test_a_recorder_that_was_ready_long_before_the_first_tick_is_not_lost(lockstep):
    cell = Cell(lockstep)
    cell.samples()
    cell.machine.begin(cell.goal, cell.now, cell.mono)
    cell.beat()
    for _ in range(19 if lockstep else 18):
        cell.poll()
        cell.mono += CONTROL_PERIOD_NS
        cell.now += 0 if lockstep else CONTROL_PERIOD_NS
        cell.samples()
        cell.machine.on_safety('', cell.mono)
        cell.recorder(grows=False)      # in lockstep nothing moves, so nothing is written
    cell.machine.on_policy('e1', True, '')
    cell.mono += 60 * MS if lockstep else 0
    cell.step()
    assert cell.machine.phase is Phase.TICKING


def test_a_policy_that_was_restarted_is_lost():
    cell = running(lockstep=True)
    cell.machine.on_policy('', False, '')
    assert ended(cell) == 'policy_lost:it is not ready any more'
    cell.advance()
    go_on(cell)


def test_why_a_policy_failed_is_the_reason():
    cell = running(lockstep=False)
    cell.poll()
    cell.machine.on_policy('e1', False, 'ZeroDivisionError: division by zero')
    assert ended(cell) == 'policy_invalid:ZeroDivisionError: division by zero'
    calls = len(cell.ports.calls)
    cell.act(np.full(5, np.nan))
    assert len(cell.ports.calls) == calls


def test_a_task_that_does_not_exist_is_invalid():
    cell = running(lockstep=False)
    cell.poll()
    cell.machine.on_action('e1', 3, np.zeros(5), 9, 'v1', cell.mono)
    assert ended(cell) == 'policy_invalid:task 9 does not exist'


@pytest.mark.parametrize('index', [2, 4])
def test_an_answer_to_another_tick_is_none(index):
    cell = running(lockstep=False)
    cell.poll()
    cell.machine.on_action('e1', index, np.zeros(5), 0, 'v1', cell.mono)
    assert cell.machine.phase is Phase.ACTING
    cell.advance()
    cell.samples()
    cell.poll()
    assert ended(cell) == f'policy_late:50 ms, it answered tick {index} instead of 3'


def test_an_action_beyond_the_range_is_clipped_to_it():
    cell = running(lockstep=True)
    cell.poll()
    cell.act((7.0, -1e30, 0.5, 0, 1))
    expected = np.array([1, -1, 0.5, 0, 1], np.float32)
    np.testing.assert_array_equal(cell.ports.commands[-1][1], expected)
    np.testing.assert_array_equal(cell.ports.steps[-1].action, expected)


@pytest.mark.parametrize('who, error', [('policy', 'the policy is not ready: reset failed: no'),
                                        ('recorder', 'the recorder is not recording: disk full')])
def test_a_refusal_is_not_waited_out(who, error):
    cell = Cell(lockstep=False)
    cell.ready()
    if who == 'policy':
        cell.machine.on_policy('e1', False, 'reset failed: no')
    else:
        cell.recorder('failed', 'disk full')
    cell.poll()
    assert cell.machine.phase is Phase.DONE and cell.machine.outcome.error == error
    assert cell.ports.calls == ['start', 'end']


@pytest.mark.parametrize('beats, seal_s, error', [
    (True, 1.0, 'the recorder did not seal the bag in time'),
    (False, 20.0, 'the recorder fell silent before it had sealed the bag'),
])
def test_a_recorder_that_never_seals_does_not_keep_the_result(beats, seal_s, error):
    cell = running(lockstep=False)
    cell.machine._waits = dataclasses.replace(cell.machine._waits, seal_s=seal_s)
    cell.machine.cancel()
    assert ended(cell) == 'cancelled'
    for _ in range(45):     # 2.25 s
        cell.poll()
        cell.advance()
        if beats:
            cell.recorder()
    assert cell.machine.phase is Phase.DONE
    assert cell.machine.outcome.error == error


def test_nothing_begins_on_a_sensor_that_is_bad():
    cell = Cell(lockstep=False)
    cell.ready()
    cell.samples(tcp_pose={'pose': np.full(7, np.nan)})
    for _ in range(22):
        cell.poll()
        cell.advance()
        cell.samples(tcp_pose={'pose': np.full(7, np.nan)})
    assert cell.machine.phase is Phase.DONE and not cell.ports.ticks
    assert cell.machine.outcome.error == 'bad_sensor:tcp_pose position is not finite'
    assert cell.run().reason == 'time_limit'


def test_late_ticks_are_counted_and_no_period_gets_two():
    cell = Cell(lockstep=False, steps=100)
    cell.ready()
    start, sent = cell.mono, []
    for at_ms in (0, 50, 115, 150, 240, 250, 300, 350, 460, 500):
        cell.now = cell.mono = start + at_ms * MS
        cell.samples()
        cell.beat()
        before = len(cell.ports.ticks)
        cell.poll()
        if len(cell.ports.ticks) > before:
            sent.append(at_ms)
            cell.act()
    # 240 is 40 ms late, which is too near to 250; nothing came at 400, and 460 is 10 ms late, no more
    assert sent == [0, 50, 115, 150, 240, 300, 350, 460, 500]
    assert (cell.machine.outcome.overruns, cell.machine.outcome.missed) == (2, 2)
    figures = cell.machine.figures(cell.now)
    assert figures['overruns'] == 2 and figures['missed'] == 2 and figures['period_ms'] == 40.0
    assert figures['age_ms.joints'] == 0.0


def test_a_patient_lockstep_waits_longer_for_everything_and_a_usual_one_as_ever():
    assert Waits.in_lockstep(5.0) == Waits()
    assert Waits.in_lockstep(1.0) == Waits(lockstep_s=1.0)      # impatience is for one another, not for the disk
    patient = Waits.in_lockstep(50.0)
    assert all(getattr(patient, f.name) == pytest.approx(10 * getattr(Waits(), f.name)) for f in dataclasses.fields(Waits))
