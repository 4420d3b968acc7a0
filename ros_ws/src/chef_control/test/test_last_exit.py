# SPDX-License-Identifier: Apache-2.0
"""A process ends at its deadline even while C code holds Python's global lock, and by itself before it."""

import subprocess
import sys

import pytest

# PyDLL keeps the global lock while it calls, like the middleware's teardown.
HANGS = 'import ctypes; from chef_control.last_exit import exit_after; exit_after({}, {}); {}'


def end_of(deadline_s: float, code: int, work: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', HANGS.format(deadline_s, code, work)],
                          capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize('code', [0, 2])
def test_a_process_that_hangs_ends_with_its_own_code_and_says_where_it_stood(code):
    done = end_of(0.5, code, 'ctypes.PyDLL(None).sleep(600)')
    assert done.returncode == code
    assert 'File "<string>", line 1 in <module>' in done.stderr


def test_a_process_that_ends_by_itself_is_not_touched():
    done = end_of(600.0, 3, 'raise SystemExit(5)')
    assert done.returncode == 5 and done.stderr == ''


def test_without_a_timer_the_end_stays_in_good_order():
    # as many as the system allows a user to have waiting signals
    limit = 'import resource; resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0)); '
    done = subprocess.run([sys.executable, '-c', limit + HANGS.format(600.0, 3, 'raise SystemExit(5)')],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 5 and done.stderr.startswith('no timer to end this process by: ')
