# SPDX-License-Identifier: Apache-2.0
"""Executable `cell_storage`: sealed bags go to the fleet's storage, its newest policy version comes to this cell.

Nobody in the graph waits for it: the recorder has sealed a bag before this node sees it, and the policy node takes the
newest version that lies in the run between two episodes, wherever that came from. What an experiment asks its cells for comes
by the storage as well (`chef_task.orders`).
"""

from __future__ import annotations

import time
from pathlib import Path

from chef_control.health import Report
from chef_control.node import RUN_DIR, CellNode, ConfigError, Param, run
from chef_task.orders import Follower
from chef_task.storage import Storage, StorageError, cell_place
from chef_task.storage_sync import BAG_MARK, POLICIES, Down, StorageSync, Up, about_bag

_END_S = 7.0    # for the last bags, once the graph ends


class CellStorageNode(CellNode):
    """Shell over StorageSync and Follower. The cell's name in the storage is its namespace."""

    PARAMS = (RUN_DIR,
              Param('storage', '', 'path or URL of the fleet\'s storage'),
              Param('fetch_policies', True, 'whether to fetch the newest policy version'),
              Param('orders', True, 'whether to fetch what an experiment asks its cells for'),
              Param('look_s', 1.0, 's between two looks at the storage'))

    def __init__(self, name: str):
        super().__init__(name)
        p, cell = self.params, self.get_namespace().strip('/') or 'cell'
        if not p['run_dir'].startswith('/'):
            raise ConfigError(f'parameter run_dir must be an absolute path, not {p["run_dir"]!r}')
        if not p['look_s'] > 0:
            raise ConfigError(f'parameter look_s must be positive, not {p["look_s"]}')
        run_dir = Path(p['run_dir'])
        try:
            self._sync = StorageSync(
                Storage(p['storage']), [Up(run_dir / 'episodes', cell_place(cell), BAG_MARK, about_bag)],
                [Down(POLICIES, run_dir / 'policies', newest=True)] if p['fetch_policies'] else [], p['look_s'])
            # a connection of its own: a long upload must not keep the cell silent
            self._follower = Follower(Storage(p['storage']), cell, run_dir, p['look_s']) if p['orders'] else None
        except StorageError as e:
            raise ConfigError(e) from None
        if self._follower:
            self._follower.start()
        self._end_by: float | None = None
        self._sync.start()
        self.every(0.2, self._tell)

    def _tell(self) -> None:
        for warning, line in self._sync.take_events() + (self._follower.take_events() if self._follower else []):
            # two lines of code: rclpy ties a severity to the line that logs
            if warning:
                self.get_logger().warning(line)
            else:
                self.get_logger().info(line)

    def diagnose(self, report: Report) -> None:
        status = self._sync.status
        report.values |= {'uploaded': status.uploaded, 'waiting': status.waiting, 'refused': status.refused,
                          'fetched_policies': status.fetched}
        if error := status.error or (self._follower.error if self._follower else ''):
            report.warn(error)

    def stop(self) -> bool:
        """Uploads what is left, for a while; the rest goes when the run is continued, or by ./chef fleet upload."""
        if self._end_by is None:
            self._end_by = time.monotonic() + _END_S
            self._sync.end()
            if self._follower:
                self._follower.end()
        late = time.monotonic() > self._end_by
        if not self._sync.ended and not late:
            return False
        self._tell()
        status = self._sync.status
        if status.waiting or late:
            self.get_logger().warning(f'{status.waiting or "some"} bags are not in the storage yet: ./chef fleet upload')
        return True


def main() -> None:
    """Exits with 0 when asked to end, 2 if the storage's URL is none."""
    run(CellStorageNode, 'cell_storage', stop_deadline_s=_END_S + 1.0)
