# SPDX-License-Identifier: Apache-2.0
"""Random sequences of samples: nothing is found on sound ones, and what is injected is found within its limit."""

from __future__ import annotations

import numpy as np
import pytest
from episode_cell import MS, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.plausible import Plausibility
from chef_control.stream_watch import StreamWatch
from chef_task import geometry
from chef_task.limits import Limits
from chef_task.observation import PINCH_FROM_TCP
from chef_task.records import Reason
from chef_task.spaces import CAMERAS, CONTROL_PERIOD_NS, STREAMS, streams_of

ALL = streams_of('pixels')
PERIOD_MS = {s: 10 if s in ('joints', 'wrench') else 50 for s in ALL}
STILL = Limits.from_dict({'frozen_s': dict.fromkeys(CAMERAS, 0)})     # as the simulated cell, whose scenes stand still
DEFAULT = Limits()
DOWN = [0.0, 1.0, 0.0, 0.0]
START = 1_795_467_300_000_000_000


class Device:
    """All sensors of a cell, their jitter and noise made from a seed; `now` and `mono` in ns."""

    def __init__(self, seed: int, limits: Limits, lockstep: bool = False, jitter_ms: float = 20.0):
        self.rng = np.random.default_rng(seed)
        self.watch = StreamWatch(ALL, limits, lockstep)
        self.now, self.mono, self.jitter_ms = START, 7 * 10**9, jitter_ms
        self.tool = np.array([0.6, 0.0, 0.095])     # of the pinch
        self.frame = {c: self._image() for c in CAMERAS}
        self.heading = 1
        self.still = False      # the tool does not move, and the scene neither
        self.change = lambda stream, stamp, values: (stamp, values)     # what a fault makes of it; None: silence
        self._next = {s: 0 for s in ALL}
        self._ms = 0

    def _image(self) -> np.ndarray:
        return self.rng.integers(0, 255, STREAMS[CAMERAS[0]].fields['image'], np.uint8)

    def tick(self) -> str:
        """One control period and the tick at its end."""
        moved = 0.0 if self.still else self.rng.uniform(0.0, 0.0035)
        self.heading = -self.heading if abs(self.tool[1]) > 0.11 else self.heading
        self.tool = self.tool + moved * np.array([0, self.heading, 0])
        if moved:
            self.frame = {c: self._image() for c in CAMERAS}
        self._ms += 50
        for s in ALL:
            while self._next[s] < self._ms:
                self._send(s, START + self._next[s] * MS)
                self._next[s] += PERIOD_MS[s]
        self.now, self.mono = self.now + CONTROL_PERIOD_NS, self.mono + CONTROL_PERIOD_NS
        late = 0 if self.watch._lockstep else int(self.rng.uniform(0, self.jitter_ms) * MS)
        now, mono = self.now + late, self.mono + late
        return self.watch.fault(self.watch.steady(now, mono), mono)

    def _send(self, s: str, stamp: int) -> None:
        values = sample(s, self.rng.standard_normal())
        if s == 'tcp_pose':
            values['pose'] = geometry.compose(np.r_[self.tool + values['pose'][:3], DOWN], geometry.inverse(PINCH_FROM_TCP))
        if s in CAMERAS:
            values['image'] = self.frame[s]
        changed = self.change(s, stamp, values)
        if changed is not None:
            self.watch.on_sample(s, *changed, self.mono + int(self.rng.uniform(0, 20) * MS))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.lists(st.booleans(), min_size=1, max_size=6))
def test_nothing_is_found_on_sound_sensors(seed, lockstep, stills):
    device = Device(seed, STILL, lockstep)
    for device.still in stills:
        for _ in range(15):
            assert device.tick() == ''


def freeze(stream):
    kept = {}

    def change(s, stamp, values):
        return (stamp, kept.setdefault(s, values)) if s == stream else (stamp, values)
    return change


def of_stream(stream, change):
    return lambda s, stamp, values: change(stamp, values) if s == stream else (stamp, values)


def absurd(values):
    field = max(values, key=lambda f: values[f].size)
    return {**values, field: np.full_like(values[field], 77 if values[field].dtype == np.uint8 else np.nan)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(ALL), st.sampled_from(
    ['silent', 'old', 'stuck', 'back', 'ahead', 'absurd', 'frozen']), st.integers(1, 12))
def test_what_is_injected_is_found_within_its_limit(seed, stream, kind, after):
    device = Device(seed, DEFAULT)
    for _ in range(after):
        assert device.tick() == ''
    stuck = START + device._ms * MS
    age = DEFAULT.sensor_age_s[stream]
    change, reason, limit_s = {
        'silent': (of_stream(stream, lambda stamp, v: None), Reason.STALE_SENSOR, age + 0.06),
        'old': (of_stream(stream, lambda stamp, v: (max(stuck - PERIOD_MS[stream] * MS, stamp - 600 * MS), v)),
                Reason.STALE_SENSOR, age + 0.06),
        'stuck': (of_stream(stream, lambda stamp, v: (stuck, v)), Reason.STALE_SENSOR, age + 0.06),
        'back': (of_stream(stream, lambda stamp, v: (stamp - 1100 * MS, v)), Reason.CLOCK_JUMP, 0.0),
        'ahead': (of_stream(stream, lambda stamp, v: (stamp + 300 * MS, v)), Reason.CLOCK_JUMP, 0.0),
        'absurd': (of_stream(stream, lambda stamp, v: (stamp, absurd(v))), Reason.BAD_SENSOR, 0.0),
        'frozen': (freeze(stream), Reason.STALE_SENSOR, DEFAULT.frozen_s[stream] + 0.1),
    }[kind]
    if kind == 'frozen' and not DEFAULT.frozen_s[stream]:
        return      # a gripper at rest repeats itself
    device.change = change
    ticks, fault = 0, ''
    while not fault and ticks < 40:
        fault = device.tick()
        ticks += 1
    assert fault.startswith(f'{reason.value}:{stream} '), fault
    assert (ticks - 1) * 0.05 <= limit_s, fault     # the first tick is the one that can see it at all


@pytest.mark.parametrize('camera', CAMERAS)
def test_a_camera_of_a_cell_that_may_stand_still_is_frozen_once_the_tool_moves(camera):
    device = Device(3, STILL)
    device.tick()
    device.still, device.change = True, freeze(camera)
    for _ in range(100):
        assert device.tick() == ''
    device.still = False
    start, fault = device.tool, ''
    while not fault:
        fault = device.tick()
    assert fault.startswith(f'stale_sensor:{camera} is frozen: the same frame while the tool moved by')
    assert STILL.frozen_motion_m < np.linalg.norm(device.tool - start) < STILL.frozen_motion_m + 0.004


def test_where_no_camera_sees_the_tool_a_frame_may_stay_the_same():
    device = Device(3, STILL)
    device.tool[2], device.change = 0.25, freeze(CAMERAS[0])
    for _ in range(100):
        assert device.tick() == ''


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(-1e5, 1e5).filter(lambda s: abs(s) > 0.051), st.integers(1, 5))
def test_the_wall_clock_is_watched(seed, jump_s, after):
    device = Device(seed, STILL)
    for _ in range(after):
        assert device.tick() == ''
    before = device.now
    device.now += int(jump_s * 1e9)
    fault = device.tick()
    assert fault.startswith(f'clock_jump:the wall clock went {"on" if jump_s > 0 else "back"} by')
    assert before < device.watch._now < before + 100 * MS   # which is on the old clock
    device.watch.restart()
    after = device.tick()       # the devices did not follow
    if abs(jump_s) > 0.4:
        assert 'ahead of the clock' in after if jump_s < 0 else after.startswith('stale_sensor')


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([s for s in ALL if s not in CAMERAS]), st.data())
def test_any_values_are_judged_without_an_exception(stream, data):
    values = {}
    for field, shape in STREAMS[stream].fields.items():
        size = int(np.prod(shape))
        numbers = data.draw(st.lists(st.floats() | st.floats(-1, 1), min_size=size, max_size=size))
        values[field] = np.array(numbers).reshape(shape)
    fault = Plausibility(DEFAULT, (np.full(7, -3.0), np.full(7, 3.0))).fault(stream, values)
    assert fault or all(np.isfinite(v).all() for v in values.values())


def test_joints_out_of_their_range_are_told_as_the_safety_gate_tells_them():
    plausible = Plausibility(DEFAULT, (np.full(7, -3.0), np.full(7, 2.5)))
    rest = sample('joints')
    assert plausible.fault('joints', rest) == ''
    beyond, fast = np.array([0, 0, 0, 0, 0, 2.56, 0]), np.array([0, 0, 0, -2.95, 0, 0, 0])
    assert plausible.fault('joints', {**rest, 'position': beyond}) == 'limit_violated:joint 5 is at 2.56 rad'
    assert plausible.fault('joints', {**rest, 'velocity': fast}) == 'limit_violated:joint 3 moves at -2.95 rad/s'
    leaning = {**rest, 'position': beyond - [0, 0, 0, 0, 0, 0.02, 0]}      # on its stop
    assert plausible.fault('joints', leaning) == ''


def test_ages_are_those_of_the_capture_stamps():
    device = Device(1, STILL)
    device.tick()
    assert device.watch.figures(device.now)['age_ms.joints'] == pytest.approx(10)
