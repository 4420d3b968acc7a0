# SPDX-License-Identifier: Apache-2.0
"""Faults of a real cell's devices, each put into its fake, which speaks the device's protocol to the real driver."""

from __future__ import annotations

import os
import signal
import time
from random import Random

from cell import CAMERAS, Cell
from kind import GRAPH, NOTHING, Kind

PROFILE, PICTURES = 'real', 'real pixels'
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
        *_pictures(),
        *map(unplugged, _DEVICES), *map(hangs, _DEVICES), *map(garbage, ('gripper', 'wrench')),
        Kind('real emergency stop', PROFILE, told('arm'), GRAPH, reasons=(stale('arm'), 'node_lost'),
             line=r'\[arm\] ERROR the device is lost: .*emergency stop', blind=_DEVICES['arm'][1]),
        Kind('real spike:wrench', PROFILE, spike, reasons=('force_limit',)),
    ]


def _pictures() -> list[Kind]:
    """Of cameras and tracker: the first two cameras are emulated Baslers, the last one is a stream of JPEGs over HTTP."""
    basler, other, network = CAMERAS
    gone, back = rf'camera {network}.*it is opened anew', rf'camera {network} is back after \d'

    def unplug(cell: Cell, rng: Random) -> int:
        return cell.unplug(f'fake_camera_{network}')

    def tell(number: signal.Signals, *cameras: str):
        def inject(cell: Cell, rng: Random) -> int:
            pids = [cell.pid(f'fake_camera_{camera}') for camera in cameras]
            now = time.time_ns()
            for pid in pids:
                os.kill(pid, number)
            return now
        return inject

    def paused(node: str, seconds: float):
        return lambda cell, rng: cell.pause(node, seconds)

    lost = rf'stale_sensor:({network}|objects)'
    return [
        Kind('real unplugged:camera', PICTURES, unplug, reasons=(lost,), undo=Cell.plug_in, line=rf'(?s){gone}.*{back}'),
        # what it sends comes late, and all at once
        Kind('real hangs:camera', PICTURES, paused(f'fake_camera_{network}', 0.8), reasons=(lost,)),
        # an emulated Basler goes on delivering, the same picture again and again
        Kind('real frozen:camera', PICTURES, paused(f'fake_camera_{basler}', 1.2), reasons=(rf'stale_sensor:{basler}',)),
        Kind('real garbage:camera', PICTURES, tell(signal.SIGUSR2, network), reasons=(lost,)),
        Kind('real covered:cameras', PICTURES, tell(signal.SIGUSR1, *CAMERAS), reasons=('bad_sensor:objects',)),
        Kind('real covered:camera', PICTURES, tell(signal.SIGUSR1, other), ends=NOTHING),
        Kind('real hangs:tracker', PICTURES, paused('tracker', 0.7), reasons=('stale_sensor:objects',)),
        Kind('real killed:tracker', PICTURES, lambda cell, rng: cell.kill('tracker'), GRAPH,
             reasons=('stale_sensor:objects', 'node_lost'), line="required node 'tracker' was ended by SIGKILL"),
        Kind('real killed:camera driver', PICTURES, lambda cell, rng: cell.kill(f'camera_{basler}'), GRAPH,
             reasons=('stale_sensor', 'node_lost'), line=f"required node 'camera_{basler}' was ended by SIGKILL"),
    ]
