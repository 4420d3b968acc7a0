# SPDX-License-Identifier: Apache-2.0
"""An update's metrics, and what of them stops learning."""

import math

import pytest
import torch

from chef_learning.outcome import Outcome

NAMES = ('actor_loss', 'actor_gradient_norm', 'q/lift', 'dual_gradient_norm', 'actor.last.weight', 'dual.log_alpha_mean')


def outcome(*values):
    return Outcome(7, NAMES, 3, torch.tensor(values))


def test_it_shows_the_metrics_and_not_what_they_are_checked_by():
    found = outcome(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    found.check()
    assert dict(found) == {'actor_loss': 1.0, 'actor_gradient_norm': 2.0, 'q/lift': 3.0} and len(found) == 3
    assert found == {**found} and 'dual_gradient_norm' not in found
    with pytest.raises(KeyError):
        found['actor.last.weight']


@pytest.mark.parametrize('bad, text', [
    ((0, 4), 'the actor loss is not finite'), ((1, 4), 'the gradient of actor.last.weight is not finite'),
    ((3, 5), 'the gradient of dual.log_alpha_mean is not finite'), ((1,), 'the gradient of actor.all together is not finite')])
def test_the_first_cause_is_named(bad, text):
    with pytest.raises(FloatingPointError, match=f'^update 7: {text}$'):
        outcome(*(math.nan if k in bad else 1.0 for k in range(6))).check()


def test_a_statistic_that_is_not_finite_stops_nothing():
    outcome(1.0, 1.0, math.inf, 1.0, 1.0, 1.0).check()
