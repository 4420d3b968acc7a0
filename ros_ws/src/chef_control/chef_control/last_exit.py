# SPDX-License-Identifier: Apache-2.0
"""A process's end that nothing can hold up.

Leaving a DDS domain joins the middleware's threads, and seldom hangs there (seen twice in hundreds of runs of the
graph, its cause is not known). rclpy calls it with Python's global lock held as far as we know, so a thread or a
signal handler in Python could not end the wait; a node that had stopped its arm and written all it had was killed,
and so reported as failed. A timer of the operating system needs no lock of Python's.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys

_CLOCK_MONOTONIC = 1    # <time.h>
_SIGEV_THREAD = 2       # <signal.h>: the timer calls a function in a new thread


class _SigEvent(ctypes.Structure):
    """`struct sigevent` of Linux, 64 bytes."""

    _fields_ = [('value', ctypes.c_void_p), ('signo', ctypes.c_int), ('notify', ctypes.c_int),
                ('function', ctypes.c_void_p), ('attributes', ctypes.c_void_p), ('pad', ctypes.c_byte * 32)]


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: interval and value, each in s and ns."""

    _fields_ = [(name, ctypes.c_long) for name in ('every_s', 'every_ns', 'after_s', 'after_ns')]


def exit_after(deadline_s: float, code: int) -> None:
    """Ends this process with `code` in `deadline_s`, if it is still there then; where it stood goes to stderr.

    Linux only; elsewhere, or where the system has no timer left, whoever started the process has to kill it.
    """
    if not sys.platform.startswith('linux'):
        return
    faulthandler.dump_traceback_later(0.8 * deadline_s)
    libc = ctypes.CDLL(None, use_errno=True)
    event = _SigEvent(value=code, notify=_SIGEV_THREAD, function=ctypes.cast(libc._exit, ctypes.c_void_p))
    timer = ctypes.c_void_p()
    spec = _TimerSpec(0, 0, int(deadline_s), int(deadline_s % 1 * 1e9))
    if libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) \
            or libc.timer_settime(timer, 0, ctypes.byref(spec), None):
        # what was done in good order must not fail for that
        print(f'no timer to end this process by: {os.strerror(ctypes.get_errno())}', file=sys.stderr)
