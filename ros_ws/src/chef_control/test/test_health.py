# SPDX-License-Identifier: Apache-2.0
"""A node's report of its own health, and the cell's line."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from chef_control.cell_health import CellHealth
from chef_control.health import ERROR, OK, WARN, Health


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_those_since_the_last_report():
    clock = Clock()
    health = Health(clock)
    meter = health.meter('wrench')
    assert health.meter('wrench') is meter
    for expected in (100.0, 50.0, 0.0):
        clock.now += 2.0
        for _ in range(int(expected * 2)):
            meter.tick()
        assert health.report().values['wrench_hz'] == expected


def test_silence_warns_only_where_asked_for():
    clock = Clock()
    clock.now = time.monotonic()    # which meters tick by
    health = Health(clock)
    heard, unheard, rare = health.meter('wrench', 1.0), health.meter('joints', 1.0), health.meter('command')
    heard.tick()
    clock.now += 0.5
    assert health.report().level == OK
    clock.now += 2.0
    report = health.report()
    assert report.level == WARN and report.message == 'no wrench for 2.5 s; no joints yet'
    assert report.values['wrench_age_s'] >= 2.4 and rare.count == unheard.count == 0


def test_counts_stay_and_values_are_text():
    health = Health()
    health.add('refused')
    health.add('refused', 2)
    for _ in range(2):
        values = health.report().text_values()
        assert values['refused'] == '3'
    assert float(values['rss_mib']) > 1 and int(values['open_files']) > 2
    assert all(isinstance(v, str) for v in values.values())


def test_the_level_is_the_worst_and_the_message_names_all():
    report = Health().report()
    assert (report.level, report.message) == (OK, 'OK')
    report.error('disk full')
    report.warn('slow')
    assert (report.level, report.message) == (ERROR, 'disk full; slow')


def cell() -> CellHealth:
    health = CellHealth(silent_s=5.0)
    for name, values in {
            'episode': {'tick_hz': '20.0'}, 'wrench': {'wrench_hz': '99.8'}, 'safety': {'force_peak_n': '3.21'},
            'camera_a': {'image_hz': '20'}, 'camera_b': {'image_hz': '19.6'}, 'recorder': {'disk_free_gib': '75.2'},
            'policy': {'policy_version': 'v000009'}}.items():
        health.update(name, OK, 'OK', values, 0.0)
    return health


def test_a_healthy_cell_in_one_line():
    assert cell().line(1.0) == (OK, 'health OK: 7 nodes, 20.0 Hz, cameras 20/20 Hz, F/T 100 Hz, force peak 3.2 N, '
                                    'disk 75 GiB, policy v000009')


def test_a_cell_at_rest_shows_no_tick_rate():
    health = cell()
    health.update('episode', OK, 'OK', {'tick_hz': '0.0'}, 0.0)
    assert 'nodes, cameras' in health.line(1.0)[1]


def test_problems_come_first_the_worst_first_and_silence_is_one():
    health = cell()
    health.update('safety', WARN, 'stopped: force_limit:21.0 N', {}, 6.0)
    level, line = health.line(6.0)
    assert level == ERROR
    assert line.startswith('health ERROR: episode: no diagnostics for 6 s, ')
    assert ', safety: stopped: force_limit:21.0 N, 7 nodes' in line


@given(st.text(max_size=5), st.integers(-1, 300), st.dictionaries(
    st.sampled_from(['tick_hz', 'wrench_hz', 'image_hz', 'force_peak_n', 'disk_free_gib', 'policy_version']),
    st.text(max_size=5)))
def test_whatever_somebody_publishes_there_is_a_line(node, level, values):
    health = CellHealth()
    health.update(node, level, 'x', values, 0.0)
    assert health.line(1.0)[1].startswith('health ')
