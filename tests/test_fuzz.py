# SPDX-License-Identifier: Apache-2.0
"""A quick form of `./chef bench fuzz`: other inputs in every run; a failure is repeated by the number it names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'benchmarks'))

from _fuzz_target import attempt  # noqa: E402
from fuzz import targets  # noqa: E402

TARGETS = targets()
# numbers do not get simpler when they get smaller
QUICK = settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate],
                 suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope='module', params=sorted(TARGETS))
def target(request, tmp_path_factory):
    return request.param, TARGETS[request.param](tmp_path_factory.mktemp(request.param))


@QUICK
@given(number=st.integers(0, 2**40))
def test_damaged_input_is_refused_with_one_line(target, number):
    name, loader = target
    attempt(loader, name, number)


def test_the_same_number_is_the_same_input(tmp_path):
    """Else a failure could not be looked at again."""
    import random

    texts = []
    for folder in (tmp_path / 'a', tmp_path / 'b'):
        folder.mkdir()
        made = TARGETS['cell-config'](folder)
        for number in range(20):
            made.make(random.Random(f'cell-config {number}'))
            texts.append(made.path.read_bytes())
    assert texts[:20] == texts[20:] and len(set(texts[:20])) > 15
