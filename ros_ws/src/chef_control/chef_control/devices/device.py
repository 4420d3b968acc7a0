# SPDX-License-Identifier: Apache-2.0
"""What every device of a real cell looks like to the driver node that owns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from chef_task.errors import OneLineError

OnBatch = Callable[[list[dict]], None]
OnLost = Callable[[str], None]


class DeviceError(OneLineError):
    """A device is missing, busy or answers nonsense; one line that says which device, where, and what it did."""


class Device(Protocol):
    """An open device; the same as `chef_sim.client.DeviceClient` is to the simulated cell's drivers.

    It is made by `Class(settings, on_batch, on_lost)`, which opens it, or raises DeviceError within a bounded time.
    `settings` is the frozen dataclass `Class.Settings`, see `chef_control.devices`.

    on_batch gets lists of samples, oldest first, from a thread of the device's own; a sample is a dict with `stream`,
    `stamp` (ns of the system clock at capture, as near the hardware as can be had) and
      stream 'joints': position[7] rad, velocity[7] rad/s, effort[7] N m
      stream 'tcp': pose[7] x y z (m) qw qx qy qz, twist[6] (m/s, rad/s), of frame `tcp` in the base frame
      stream 'gripper': position 0 (open)..255, velocity 1/s of the same register, grasp 1|2|3
      stream 'wrench': force[3] N, torque[3] N m
      stream '<camera>': image [H, W, 3] uint8 RGB
      stream 'objects': poses[3][7], of the red, green and blue object in the base frame; NaN: not seen
    on_lost is called once, with one line, when the device is gone for good. The node then ends.

    What moves has a watchdog of its own: 100 ms without a command stop it, whatever its driver does.
    """

    def __init__(self, settings: Any, on_batch: OnBatch, on_lost: OnLost): ...

    def send(self, command: dict) -> None:
        """{'command': 'arm', 'stamp': ns, 'velocity': [7] rad/s} or {'command': 'gripper', 'stamp': ns, 'velocity':
        -1..1, positive closes}; DeviceError if it cannot be sent. Devices that move nothing need not have it."""

    def close(self) -> None:
        """Stops what moves, then lets go of the device; takes a bounded time, may be called twice."""
