# SPDX-License-Identifier: Apache-2.0
"""Faults of a real cell's devices, each put into its fake, which speaks the device's protocol to the real driver."""

from __future__ import annotations

import os
import signal
import time
from random import Random

from cell import Cell
from kind import GRAPH, Kind

PROFILE = 'real'
# device: (what its streams are, what is silent with it)
_DEVICES = {
    'arm': ('joints|tcp_pose|tcp_twist', ('joint_states',)),
    'gripper': ('gripper', ()),
    'wrench': ('wrench', ('wrench',)),
}
_HANGS_S = 0.4


def real() -> list[Kind]:
    def stale(device: str) -> str:
        return f'stale_sensor:({_DEVICES[device][0]})'

    def unplugged(device: str) -> Kind:
        return Kind(f'real unplugged:{device}', PROFILE, lambda cell, rng: cell.kill(f'fake_{device}'), GRAPH,
                    reasons=(stale(device), 'node_lost'), line=rf'\[{device}\] ERROR the device is lost: \S',
                    blind=_DEVICES[device][1])

    def hangs(device: str) -> Kind:
        """It answers nothing for a while; its driver waits for it, the arm does not."""
        return Kind(f'real hangs:{device}', PROFILE, lambda cell, rng: cell.pause(f'fake_{device}', _HANGS_S),
                    reasons=(stale(device), 'stale_command'), blind=_DEVICES[device][1])

    def told(device: str):
        def inject(cell: Cell, rng: Random) -> int:
            """SIGUSR1 makes a fake misbehave, each in its own way."""
            now = time.time_ns()
            os.kill(cell.pid(f'fake_{device}'), signal.SIGUSR1)
            return now
        return inject

    def garbage(device: str) -> Kind:
        return Kind(f'real garbage:{device}', PROFILE, told(device), reasons=(stale(device),), blind=_DEVICES[device][1])

    def spike(cell: Cell, rng: Random) -> int:
        return cell.device_fault('spike', stream='wrench', amount=rng.choice((-1, 1)) * rng.uniform(40.0, 200.0),
                                 duration_s=rng.uniform(0.05, 0.1))

    return [
        *map(unplugged, _DEVICES), *map(hangs, _DEVICES), *map(garbage, ('gripper', 'wrench')),
        Kind('real emergency stop', PROFILE, told('arm'), GRAPH, reasons=(stale('arm'), 'node_lost'),
             line=r'\[arm\] ERROR the device is lost: .*emergency stop', blind=_DEVICES['arm'][1]),
        Kind('real spike:wrench', PROFILE, spike, reasons=('force_limit',)),
    ]
