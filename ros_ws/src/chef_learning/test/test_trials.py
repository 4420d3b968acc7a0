# SPDX-License-Identifier: Apache-2.0
"""Trials are mixed and paired, and what is said of candidates is what the numbers show."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_learning.experiment.trials import Score, against, compare, holm, mcnemar, plan, rank, signed_rank, span, verdict


def scored(name, successes, trials=10, lift=0.0):
    return Score(name, trials, successes, (0.0, 0.0, lift, 0.0, 0.0, 0.0), 0, 1.0, ((lift - 1, lift + 1),) * 6)


@given(st.sets(st.text('abc', min_size=1, max_size=3), min_size=1, max_size=5), st.integers(1, 30), st.integers(0, 9))
def test_every_candidate_meets_every_scene_once(names, episodes, seed):
    order = plan(sorted(names), episodes, seed)
    assert sorted(order) == sorted(itertools.product(names, range(episodes)))
    assert order == plan(sorted(names, reverse=True), episodes, seed)


def test_trials_are_mixed():
    order = [name for name, _ in plan(['a', 'b'], 200, 0)]
    assert 60 < order[:200].count('a') < 140 and order != sorted(order)
    assert plan(['a', 'b'], 200, 0) != plan(['a', 'b'], 200, 1)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_two_sided_sign_test_of_the_scenes_that_differ(pairs):
    first = sum(a and not b for a, b in pairs)
    n = sum(a != b for a, b in pairs)
    tail = sum(math.comb(n, k) for k in range(min(first, n - first) + 1)) / 2**n
    expected = min(1.0, 2 * tail) if 2 * first != n else 1.0
    assert mcnemar(*zip(*pairs)) == pytest.approx(expected)


def test_holm_on_numbers_worked_out_by_hand():
    assert holm({'a': 0.01, 'b': 0.04, 'c': 0.03, 'd': 0.005}) == pytest.approx(
        {'d': 0.02, 'a': 0.03, 'c': 0.06, 'b': 0.06})
    assert holm({'a': 0.6, 'b': 0.9}) == {'a': 1.0, 'b': 1.0} and holm({}) == {}


def test_the_best_has_more_successes_or_a_greater_return():
    found = [scored('a', 3, lift=9.0), scored('b', 5, lift=1.0), scored('c', 5, lift=2.0)]
    assert [s.name for s in rank(found, 'stack_leave')] == ['b', 'c', 'a']     # by name where all is equal
    assert [s.name for s in rank(found, 'lift')] == ['a', 'c', 'b']            # a success there is the main task's, by chance


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=12))
def test_signed_rank_is_the_share_of_all_signs_that_are_as_extreme(values):
    """Against all 2^n signs of the ranks (Wilcoxon 1945), where no two differences are equal in size and none is zero."""
    values = list({abs(v): float(v) for v in values if v}.values())
    if len(values) < 2:
        return
    ranks = np.argsort(np.argsort(np.abs(values))) + 1.0
    seen = abs(np.sign(values) @ ranks)
    every = [abs(np.array(s) @ ranks) for s in itertools.product((-1, 1), repeat=len(values))]
    assert signed_rank(values, [0.0] * len(values)) == pytest.approx(np.mean([e >= seen for e in every]))


def test_equal_returns_tell_nothing():
    assert signed_rank([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert span(np.array([3.0, 3.0, 3.0])) == (3.0, 3.0) and span(np.array([2.0])) == (2.0, 2.0)


def test_a_span_holds_the_mean_about_as_often_as_it_says():
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        low, high = span(rng.exponential(2.0, 50))
        inside += low <= 2.0 <= high
    assert 87 <= inside <= 99


def test_a_verdict_claims_no_more_than_was_shown():
    ranked = [scored('a', 10), scored('b', 9), scored('c', 1)]
    successes = {'a': dict.fromkeys(range(10), True), 'b': {k: k > 0 for k in range(10)}, 'c': {k: k == 0 for k in range(10)}}
    adjusted = compare('a', successes)
    assert adjusted['b'] == 1.0 and adjusted['c'] == pytest.approx(2 * 2 / 2**9)
    text = verdict(ranked, adjusted)
    assert text.startswith('a succeeded in 10 of 10 trials (72 to 100 %); it was better than c ')
    assert text.endswith('but not shown to be better than b.')
    assert 'every other candidate' in verdict([scored('a', 10), scored('c', 1)], {'c': 0.004})
    assert 'no other candidate' in verdict(ranked[:1], {})


def test_where_another_task_acted_its_return_decides():
    returns = {'a': {k: 10.0 + k for k in range(12)}, 'COLLECT': {k: 4.0 + k + 0.1 * (k % 3) for k in range(12)}}
    ranked = rank([scored('a', 0, lift=15.5), scored('COLLECT', 1, lift=9.6)], 'lift')
    adjusted = compare('a', returns)
    assert adjusted['COLLECT'] == pytest.approx(2 / 2**12, rel=0.5)
    text = verdict(ranked, adjusted, 'lift')
    assert text.startswith('a has a mean return of 15.5 for lift in 10 trials (14.5 to 16.5), and was better than every')
    assert 'Wilcoxon' in text
    a, collect = ranked
    assert against(a, collect, 0.001, 'lift').startswith('a was ahead of COLLECT (p = 0.001')
    assert against(collect, a, 0.001, 'lift').startswith('COLLECT was behind a ')
    assert against(a, collect, 0.2, 'lift') == 'a was not shown to differ from COLLECT (p = 0.2, Wilcoxon).'
