# SPDX-License-Identifier: Apache-2.0
"""A camera's clock against the system's, with drift, jitter and resets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.devices.camera_clock import CameraClock

WINDOW_S = 10.0
START_NS = 1_700_000_000 * 10**9


def pictures(seed: int, drift: float, shortest_s: float, jitter_s: float, seconds: float = 30.0, hz: float = 20.0):
    """True capture, ticks, arrival; ns of the system clock, of the camera's, of the system clock."""
    random = np.random.default_rng(seed)
    capture = np.arange(0.0, seconds, 1 / hz)
    delay = shortest_s + random.exponential(jitter_s, len(capture))
    reading = 0.0005 * np.arange(len(capture))      # pictures come in order, and each takes its time to be read
    arrival = np.maximum.accumulate(capture + delay - reading) + reading
    ticks = 12345.0 + capture * (1 + drift)
    return ((np.stack([capture, arrival]) * 1e9).astype(np.int64) + START_NS, (ticks * 1e9).astype(np.int64))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(-2e-4, 2e-4), st.floats(0.001, 0.03), st.floats(0.0001, 0.02))
def test_stamps_follow_capture_through_drift_and_jitter(seed, drift, shortest, jitter):
    (capture, arrival), ticks = pictures(seed, drift, shortest, jitter)
    clock = CameraClock(WINDOW_S)
    stamps = np.array([clock.stamp(int(t), int(a)) for t, a in zip(ticks, arrival)])
    assert (stamps <= arrival).all() and (np.diff(stamps) > 0).all() and clock.resets == 0
    error_s = (stamps - capture) * 1e-9 - shortest
    wander_s = abs(drift) * WINDOW_S + 1e-5
    # once a window is full the shortest of its 200 delays is near to the shortest that there is
    assert error_s.min() > -wander_s and error_s[200:].max() < wander_s + 0.1 * jitter
    assert np.abs(error_s[200:]).mean() < np.abs((arrival - capture)[200:] * 1e-9 - shortest).mean() + wander_s


def test_what_is_known_of_the_latency_is_subtracted():
    (capture, arrival), ticks = pictures(0, 0.0, 0.02, 0.005)
    clock = CameraClock(latency_s=0.02)
    stamps = np.array([clock.stamp(int(t), int(a)) for t, a in zip(ticks, arrival)])
    assert np.abs(stamps - capture)[200:].max() < 1e6


@pytest.mark.parametrize('jump_s', [-12345.0, 3600.0, -10.0])
def test_a_clock_that_is_set_anew_is_followed_at_once(jump_s):
    (capture, arrival), ticks = pictures(1, 0.0, 0.005, 0.001, seconds=2.0)
    clock = CameraClock()
    for t, a in zip(ticks, arrival):
        clock.stamp(int(t), int(a))
    later, moved = arrival + 60 * 10**9, ticks + 60 * 10**9 + int(jump_s * 1e9)
    stamps = np.array([clock.stamp(int(t), int(a)) for t, a in zip(moved, later)])
    assert (stamps <= later).all() and (later - stamps).max() < 20e6
    assert clock.resets == (1 if jump_s < 0 else 0)     # a clock that runs ahead only lowers the minimum


def test_what_only_pretends_to_be_a_clock_is_given_up():
    (capture, arrival), _ = pictures(2, 0.0, 0.01, 0.002, hz=17.0)
    ticks = np.arange(1, len(arrival) + 1) * 40_000_000     # counted at 25 Hz
    clock = CameraClock()
    stamps = np.array([clock.stamp(int(t), int(a)) for t, a in zip(ticks, arrival)])
    assert not clock.usable and (stamps[200:] == arrival[200:]).all() and (arrival - stamps).max() < 1.1e9


def test_without_a_clock_the_arrival_counts_and_stamps_never_go_back():
    clock = CameraClock()
    assert [clock.stamp(None, a) for a in (1000, 2000, 1500, 1500, 3000)] == [1000, 2000, 2001, 2002, 3000]
