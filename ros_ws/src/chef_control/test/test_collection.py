# SPDX-License-Identifier: Apache-2.0
"""What a collection run reports."""

from __future__ import annotations

import numpy as np

from chef_control.collection import Collection
from chef_task.rewards import TASKS


def add(c: Collection, reason='time_limit', **fields) -> str:
    values = dict(success=False, steps=400, policy_version='3', peak_force_n=4.25,
                  returns=[0.0] * len(TASKS), bag='episodes/a', periods_ms=[50.0], latencies_ms=[10.0])
    return c.add(reason=reason, **{**values, **fields})


def line_of(c: Collection, start: str) -> str:
    """The one line of the summary that begins with `start`."""
    found = [line for line in c.summary().splitlines() if line.startswith(start)]
    assert len(found) == 1, f'{start!r} in {c.summary()!r}'
    return found[0]


def test_an_episodes_line_holds_its_number_reason_steps_policy_force_and_returns_by_task():
    c = Collection('runs/a')
    add(c)
    text = add(c, 'force_limit: 21.0 N', steps=12, policy_version='17', peak_force_n=21.04,
               returns=[float(i) for i in range(len(TASKS))])
    assert '\n' not in text
    assert text.startswith('episode 2: force_limit: 21.0 N, 12 steps, policy 17, peak force 21.0 N; returns')
    assert text.split('returns: ')[1].split('  ') == [f'{t} {i}.0' for i, t in enumerate(TASKS)]


def test_reasons_are_counted_without_their_detail():
    c = Collection('runs/a')
    for reason in ('time_limit', 'force_limit: 21.0 N', 'time_limit', 'force_limit: 33.1 N', 'success',
                   'force_limit: a: b'):
        add(c, reason)
    assert line_of(c, 'ended by') == 'ended by: force_limit 3, success 1, time_limit 2'


def test_the_summary_counts_episodes_steps_and_successes():
    c = Collection('runs/a')
    add(c, steps=400)
    add(c, steps=7, success=True)
    add(c, steps=30, success=True)
    assert c.summary().splitlines()[0] == '3 episodes, 437 steps, 2 successes'


def test_policy_versions_are_the_first_and_last_in_order_of_episodes():
    c = Collection('runs/a')
    for version in ('12', '30', '7'):
        add(c, policy_version=version)
    assert line_of(c, 'policy') == 'policy: first 12, last 7'


def test_one_episode_is_both_first_and_last():
    c = Collection('runs/a')
    add(c, policy_version='5')
    assert line_of(c, 'policy') == 'policy: first 5, last 5'


def test_the_rate_is_of_the_mean_period_over_all_episodes():
    c = Collection('runs/a')
    add(c, periods_ms=[40.0, 40.0, 40.0])
    add(c, periods_ms=[80.0])
    assert line_of(c, 'rate').startswith('rate: 20.00 Hz; period ')


def test_percentiles_are_over_all_episodes():
    c = Collection('runs/a')
    add(c, periods_ms=range(0, 60), latencies_ms=[1.0, 2.0])
    add(c, periods_ms=range(60, 101), latencies_ms=[6.0])
    assert line_of(c, 'rate').endswith('period p50 50.0, p99 99.0, max 100.0 ms')
    assert line_of(c, 'tick to command') == 'tick to command: p50 2.0, p99 5.9, max 6.0 ms'


def test_periods_and_latencies_may_be_missing_each():
    c = Collection('runs/a')
    add(c, periods_ms=[], latencies_ms=[])
    assert 'rate' not in c.summary() and 'tick to command' not in c.summary()
    add(c, periods_ms=[], latencies_ms=[3.0])
    assert 'rate' not in c.summary() and line_of(c, 'tick to command')


def test_the_summary_ends_with_where_the_bags_are():
    c = Collection('runs/a')
    add(c)
    assert c.summary().splitlines()[-1] == 'bags: runs/a/episodes'


def test_a_run_without_episodes_has_a_summary_too():
    assert Collection('runs/a').summary().splitlines() == [
        '0 episodes, 0 steps, 0 successes', 'ended by: -', 'policy: -', 'bags: runs/a/episodes']


def test_two_runs_share_nothing():
    first, second = Collection('runs/a'), Collection('runs/b')
    add(first)
    assert not second.lines and not second.periods_ms and not second.latencies_ms


def test_the_callers_lists_are_copied():
    c, periods, returns = Collection('runs/a'), [50.0], [1.0] * len(TASKS)
    add(c, periods_ms=periods, returns=returns)
    add(c, periods_ms=[25.0])
    returns[0] = 9.0
    assert periods == [50.0] and c.lines[0]['returns'][0] == 1.0


def test_an_episode_of_tuples_and_arrays_is_accepted():
    c = Collection('runs/a')
    text = add(c, returns=np.arange(len(TASKS), dtype=np.float32), periods_ms=np.array([50.0, 50.0]),
               latencies_ms=(1.0, 2.0))
    assert text.endswith(f'{TASKS[-1]} {len(TASKS) - 1}.0')
    assert 'rate: 20.00 Hz' in c.summary()
