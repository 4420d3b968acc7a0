# SPDX-License-Identifier: Apache-2.0
"""Executable `sim_world`: the simulated hardware, served to the drivers; `/clock` in lockstep."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rosgraph_msgs.msg import Clock

from chef_control.node import (CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE, RUN_DIR, WORLD_SOCKET, CellNode,
                               ConfigError, Param, run, to_time)
from chef_sim.server import WorldServer
from chef_sim.world import World
from chef_task.cell import CellConfig
from chef_task.qos import profile


class MotionLog:
    """Writes down when the arm starts and stops being driven, as the device itself sees it.

    One JSON line a change: {"stamp": ns of the world's clock, "moving": bool}. It is the witness of every
    claim that the arm stopped: it does not depend on any node.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open('a', buffering=1)
        self.moving: bool | None = None

    def note(self, stamp_ns: int, moving: bool) -> None:
        if moving != self.moving:
            self.moving = moving
            self._file.write(json.dumps({'stamp': stamp_ns, 'moving': moving}) + '\n')


class SimWorldNode(CellNode):
    """Owns no logic: the server runs in a thread of its own."""

    PARAMS = (RUN_DIR, CELL_CONFIG, WORLD_SOCKET, LOCKSTEP, LOCKSTEP_DEADLINE,
              Param('physics', 'exact', "physics setting, 'exact' or 'fast'"),
              Param('triplet', 1, 'object triplet in the scene, 1..5'),
              Param('seed', 0, 'of the first placement of the objects'))
    REST_S = 1.0    # hardware does not vanish when its driver ends: it stays until its watchdog has stopped the arm

    def __init__(self, name: str):
        super().__init__(name)
        p = self.params
        cell = CellConfig.load(p['cell_config'])
        self._motion = MotionLog(Path(p['run_dir']) / 'logs' / 'world_motion.jsonl')
        self._clock_pub = self.create_publisher(Clock, '/clock', profile('clock')) if self.lockstep else None
        self._stopping_since = 0.0
        started = time.monotonic()
        try:
            self._world = World(p['triplet'], p['physics'], p['seed'])
            self._server = WorldServer(
                self._world, p['world_socket'], lockstep=self.lockstep, rates_hz=None if cell.real else cell.rates_hz,    # the fakes keep their devices' rates
                lockstep_deadline_s=p['lockstep_deadline_s'], on_advance=self._on_advance).start()
        except (ValueError, OSError) as e:
            raise ConfigError(str(e)) from None
        self.get_logger().info(f'{p["physics"]} physics, triplet {p["triplet"]}; '
                               f'built in {time.monotonic() - started:.1f} s')

    def _on_advance(self, stamp_ns: int) -> None:
        self._motion.note(stamp_ns, bool(self._world.data.ctrl[:7].any()))
        if self._clock_pub is not None:
            self._clock_pub.publish(Clock(clock=to_time(stamp_ns)))

    def work(self) -> bool:
        if not self._server.alive and self.finished is None:
            self.get_logger().fatal('the simulation has ended by itself')
            self.finished = 1
        return False

    def stop(self) -> bool:
        now = time.monotonic()
        self._stopping_since = self._stopping_since or now
        if self._motion.moving and not self.lockstep and now - self._stopping_since < self.REST_S:
            return False
        self._server.stop()
        return True


def main() -> None:
    run(SimWorldNode, 'sim_world')
