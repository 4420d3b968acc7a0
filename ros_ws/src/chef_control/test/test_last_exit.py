# SPDX-License-Identifier: Apache-2.0
"""A process ends at its deadline even while C code holds Python's global lock, and by itself before it."""

import subprocess
import sys
import time

import pytest

# PyDLL keeps the global lock while it calls, like the middleware's teardown.
HANGS = 'import ctypes; from chef_control.last_exit import exit_after; exit_after({}, {}); {}'


def end_of(deadline_s: float, code: int, work: str) -> tuple[subprocess.CompletedProcess, float]:
    start = time.monotonic()
    done = subprocess.run([sys.executable, '-c', HANGS.format(deadline_s, code, work)],
                          capture_output=True, text=True, timeout=60)
    return done, time.monotonic() - start


@pytest.mark.parametrize('code', [0, 2])
def test_a_process_that_hangs_ends_with_its_own_code_and_says_where_it_stood(code):
    done, _ = end_of(0.5, code, 'ctypes.PyDLL(None).sleep(600)')
    assert done.returncode == code
    assert 'File "<string>", line 1 in <module>' in done.stderr


def test_a_process_that_ends_by_itself_is_not_touched():
    done, took_s = end_of(600.0, 3, 'raise SystemExit(5)')
    assert done.returncode == 5 and done.stderr == '' and took_s < 60
