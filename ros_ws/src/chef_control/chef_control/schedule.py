# SPDX-License-Identifier: Apache-2.0
"""The schedule of ticks in real time: one a control period, and an honest count of those that were not on time."""

from __future__ import annotations

from chef_task.spaces import CONTROL_PERIOD_NS

LATE_NS = 10_000_000


class TickSchedule:
    """Whose owner asks `due` at 20 Hz, whenever its timer gets to it, and tells of a tick with `ticked`.

    A period never gets two ticks, and none comes within half a period of the one before: the policy takes them
    to be 50 ms apart. So after a tick that was much too late the next period is left out.

    Attributes:
      overruns: ticks that were more than 10 ms late.
      missed: periods without a tick.
    """

    def __init__(self):
        self._due: int | None = None
        self.overruns = self.missed = 0

    def due(self, mono: int) -> bool:
        """Whether a tick may go out now; mono: monotonic clock, ns."""
        return self._due is None or mono >= self._due - CONTROL_PERIOD_NS // 2

    def ticked(self, mono: int) -> None:
        """A tick goes out now."""
        if self._due is None or mono < self._due:
            self._due = mono    # the earliest that the owner's timer has been is when it is due
        left_out, late = divmod(mono - self._due, CONTROL_PERIOD_NS)
        self.missed += left_out
        self.overruns += late > LATE_NS
        self._due += (left_out + 1) * CONTROL_PERIOD_NS
        if not mono < self._due - CONTROL_PERIOD_NS // 2:
            self._due += CONTROL_PERIOD_NS
            self.missed += 1
