# SPDX-License-Identifier: Apache-2.0
"""benchmarks/policy_curves.py: which versions of a training are tried; their returns are the simulated cell's affair."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[4] / 'benchmarks'
if not (FOLDER / 'policy_curves.py').is_file():
    pytest.skip('not in the repository', allow_module_level=True)
sys.path.insert(0, str(FOLDER))
import policy_curves  # noqa: E402


@pytest.mark.parametrize('updates, chosen', [
    ([], []), ([3], [3]), ([1, 9, 11, 19, 20, 21, 35], [11, 20, 35]), ([1, 40, 41], [40, 41]),
])
def test_the_first_at_or_after_each_multiple_and_the_newest(updates, chosen):
    known = [(count, Path(f'v{k:06d}')) for k, count in enumerate(updates)]
    assert [u for u, _ in policy_curves.pick(known, 10)] == chosen
