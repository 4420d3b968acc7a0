# SPDX-License-Identifier: Apache-2.0
"""Colored noise: its distribution, its spectrum, and what a policy makes of it."""

import numpy as np
import pytest
from conftest import SMALL
from test_policy import one_step, save

from chef_learning.noise import BLOCK, ColoredNoise, powerlaw
from chef_learning.policy import NetworkPolicy


@pytest.mark.parametrize('color', [0.0, 0.5, 1.0, 2.0])
def test_every_value_is_standard_normal_and_the_power_falls_with_the_frequency(color):
    series = powerlaw(color, 256, 20_000, np.random.default_rng(0))
    assert series.shape == (256, 20_000)
    assert np.abs(series.mean(1)).max() < 0.04 and np.abs(series.std(1) - 1.0).max() < 0.03
    assert np.abs((series ** 4).mean(1) - 3.0).max() < 0.35         # as of a normal distribution
    power = (np.abs(np.fft.rfft(series, axis=0)) ** 2).mean(1)[1:-1]
    slope = np.polyfit(np.log(np.arange(1, 128)), np.log(power), 1)[0]
    assert slope == pytest.approx(-color, abs=0.02)


def test_series_have_nothing_to_do_with_each_other():
    correlation = np.corrcoef(powerlaw(1.0, 256, 4, np.random.default_rng(1)).T)
    many = [np.corrcoef(powerlaw(1.0, 256, 2, np.random.default_rng(k)).T)[0, 1] for k in range(300)]
    assert correlation.shape == (4, 4) and abs(np.mean(many)) < 0.05


def test_noise_goes_on_over_blocks_and_starts_anew_when_told():
    noise, same = (ColoredNoise(1.0, 3, np.random.default_rng(5)) for _ in range(2))
    first = np.array([noise.step() for _ in range(2 * BLOCK)])
    assert first.shape == (2 * BLOCK, 3) and not np.array_equal(first[:BLOCK], first[BLOCK:])
    np.testing.assert_array_equal([same.step() for _ in range(10)], first[:10])
    same.reset()
    assert not np.isin(same.step(), first[:BLOCK]).any()


def policy(folder, noise, floor=0.0, hold=1, **load):
    network = {**SMALL['network'], 'gripper': 'categorical'}
    schedule = {'noise': noise, 'gripper_floor': floor, 'gripper_hold': hold}
    return NetworkPolicy.load(save(folder, network=network, schedule=schedule)[0], seed=1, **load)


@pytest.mark.parametrize('color, low, high', [(0.0, -0.1, 0.1), (1.0, 0.25, 0.9)])
def test_a_policy_explores_in_the_color_that_its_version_names(tmp_path, color, low, high):
    """The observation does not change, so all that changes is the noise. The gripper's choice hangs together as well."""
    acting = policy(tmp_path, color)
    actions = np.array([acting.act(one_step()) for _ in range(BLOCK)])
    for series in (actions[:, 0], actions[:, 4]):
        series = series - series.mean()
        assert low < (series[1:] * series[:-1]).mean() / series.var() < high
    assert abs(actions[:, 4].mean()) < 0.9      # both of its values, at probabilities near one half


def test_an_evaluation_has_no_noise(tmp_path):
    acting = policy(tmp_path, 1.0, evaluate=True)
    actions = np.array([acting.act(one_step()) for _ in range(5)])
    mean, _, closing = acting._distribution(one_step(), 5)
    assert (actions == actions[0]).all()
    np.testing.assert_allclose(actions[0], [*mean, 1.0 if closing > 0.5 else -1.0], rtol=1e-6)


@pytest.mark.parametrize('closing', [0.001, 0.999])
def test_a_gripper_is_tried_both_ways_whatever_its_policy_prefers(tmp_path, closing):
    def share(name, **load):
        acting = policy(tmp_path / name, 0.0, floor=0.2, **load)
        acting._distribution = lambda observation, head: (np.zeros(4), np.ones(4), closing)
        return np.mean([acting.act(one_step())[4] > 0 for _ in range(4000)])

    assert share('collecting') == pytest.approx(np.clip(closing, 0.2, 0.8), abs=0.03)
    assert share('evaluated', evaluate=True) == round(closing)


def test_a_gripper_keeps_what_was_chosen(tmp_path):
    """White noise: without a hold it would change in half of the steps."""
    acting = policy(tmp_path, 0.0, hold=10)
    for _ in range(2):
        acting.reset()
        gripper = np.array([acting.act(one_step())[4] for _ in range(400)]).reshape(-1, 10)
        assert (gripper == gripper[:, :1]).all() and 0.2 < (gripper[:, 0] > 0).mean() < 0.8
