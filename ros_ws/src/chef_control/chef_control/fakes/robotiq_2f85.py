# SPDX-License-Identifier: Apache-2.0
"""A Robotiq 2F-85 without the hardware: pymodbus' RTU server on a pseudo-terminal, with the gripper's registers.

Either with a simple mechanism of its own, or with the fingers of a running simulated world.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time

from pymodbus.simulator import DataType, SimData, SimDevice

from chef_control.devices.robotiq_2f85 import (ACTIVATE, ACTIVATED, AT_POSITION, CLOSING_CONTACT, GO_TO, INPUT, MOVING,
                                               OPENING_CONTACT, OUTPUT, REGISTERS, SPEED_MM_S)
from chef_control.fakes.modbus_server import ModbusThread
from chef_control.fakes.plan import Context, Fake
from chef_control.fakes.serial_link import GARBLED_S, SerialLink
from chef_sim.client import DeviceClient, DeviceError
from chef_task.spaces import GRASP_INWARD, GRASP_OUTWARD, GRIPPER_CLOSED

_REGISTER_PER_MM = GRIPPER_CLOSED / 85.0
_OPEN, _CLOSED = 3, 230     # of a real one, whose fingers meet before 255
_ACTIVATION_S = 0.2         # a real one takes 2 s


class Fingers:
    """A mechanism: fingers that move at a speed and stop at an object. Time is the monotonic clock, s.

    object_at: register of the position at which the fingers touch an object when closing, or None.
    """

    def __init__(self) -> None:
        self.position = float(_OPEN)
        self.object_at: float | None = None

    def move(self, target: int, speed: float, duration_s: float) -> int:
        """Moves for a time towards a position, at a speed in registers/s; gives the object flag gOBJ."""
        end = float(min(max(target, _OPEN), _CLOSED))
        blocked = self.object_at is not None and self.position <= self.object_at < end
        end = self.object_at if blocked else end
        step = speed * duration_s
        self.position += min(max(end - self.position, -step), step)
        if self.position != end:
            return MOVING
        return CLOSING_CONTACT if blocked else AT_POSITION


class WorldFingers:
    """The fingers of a simulated world: closes and opens them, and sees what they touch."""

    def __init__(self, socket: str):
        self._newest = {'position': 0, 'grasp': 1}
        self._client = DeviceClient(socket, 'fake gripper', ('gripper',), on_batch=self._on_batch)

    def _on_batch(self, samples: list[dict]) -> None:
        self._newest = samples[-1]

    @property
    def position(self) -> float:
        return float(self._newest['position'])

    @property
    def lost(self) -> str:
        return self._client.lost

    def move(self, target: int, speed: float, duration_s: float) -> int:
        ahead = target - self.position
        # the world moves by velocity: it is slowed down for the last bit, and 1 there is 255 registers/s
        velocity = min(abs(ahead) / 0.05, speed) / GRIPPER_CLOSED * (1 if ahead > 0 else -1 if ahead < 0 else 0)
        self._client.send({'command': 'gripper', 'stamp': time.time_ns(), 'velocity': velocity})
        contact = {GRASP_INWARD: CLOSING_CONTACT, GRASP_OUTWARD: OPENING_CONTACT}.get(self._newest['grasp'])
        return contact or (AT_POSITION if abs(ahead) <= 1 else MOVING)

    def close(self) -> None:
        self._client.close()


class FakeGripper:
    """Registers and behaviour of a 2F-85, on `link.host_port`.

    fault: gFLT to report. Written through Modbus only: `requests`, all that was written to the output registers.
    """

    STEP_S = 0.01

    def __init__(self, link: str = '', fingers: Fingers | WorldFingers | None = None):
        self.fingers = fingers or Fingers()
        self.fault = 0
        self.requests: list[tuple[int, ...]] = []
        self._output = [0, 0, 0]
        self._activated_at = float('inf')
        self._object = MOVING
        self._closing = threading.Event()
        self.link = SerialLink(link)
        device = SimDevice(9, simdata=[SimData(OUTPUT, REGISTERS, 0, DataType.REGISTERS),
                                       SimData(INPUT, REGISTERS, 0, DataType.REGISTERS)], action=self._on_access)
        self._server = ModbusThread(device, self.link.device_port, 115200)
        self._thread = threading.Thread(target=self._run, name='fake gripper', daemon=True)
        self._thread.start()

    async def _on_access(self, function_code, start, address, count, registers, values) -> None:
        if values is not None:
            self.requests.append(tuple(values))
            self._output[address - OUTPUT:address - OUTPUT + count] = values
            active = self._output[0] >> 8 & ACTIVATE
            if not active:
                self._activated_at, self.fault = float('inf'), 0
            elif self._activated_at == float('inf'):
                self._activated_at = time.monotonic() + _ACTIVATION_S
            return
        registers[INPUT - start:INPUT - start + REGISTERS] = self._input()

    def _input(self) -> list[int]:
        action = self._output[0] >> 8
        active, ready = action & ACTIVATE, time.monotonic() >= self._activated_at
        state = ACTIVATED if ready else 1 if active else 0
        status = active | (action & GO_TO if ready else 0) | state << 4 | self._object << 6
        current = 20 if self._object == CLOSING_CONTACT else 0
        return [status << 8, self.fault << 8 | self._output[1] & 0xFF, round(self.fingers.position) << 8 | current]

    def _run(self) -> None:
        last = time.monotonic()
        while not self._closing.wait(self.STEP_S):
            now = time.monotonic()
            if now >= self._activated_at and self._output[0] >> 8 & GO_TO:
                low, high = SPEED_MM_S
                speed = (low + (high - low) * (self._output[2] >> 8) / 255) * _REGISTER_PER_MM
                try:
                    self._object = self.fingers.move(self._output[1] & 0xFF, speed, now - last)
                except DeviceError:
                    return
            else:
                self._object = MOVING
            last = now

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not getattr(self.fingers, 'lost', '')

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=5.0)
        self._server.close()
        self.link.close()
        if isinstance(self.fingers, WorldFingers):
            self.fingers.close()

    def __enter__(self) -> FakeGripper:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def fake(entry: dict, context: Context) -> Fake:
    """A process that moves the world's fingers, at a port of its own."""
    port = str(context.folder / 'gripper')
    device = {**entry, 'port': port, 'lost_s': 5.0}     # it shares the processor with the whole cell
    return Fake(device, (__name__, '--port', port, '--world', context.world_socket))


def main(argv: list[str] | None = None) -> None:
    """Plays a 2F-85 until it is interrupted or its world ends."""
    parser = argparse.ArgumentParser(prog='python -m chef_control.fakes.robotiq_2f85', description=main.__doc__)
    parser.add_argument('--port', required=True, help='path that is made to point to its serial port')
    parser.add_argument('--world', default='', help='socket of the simulated world whose fingers are moved')
    args = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        fingers = WorldFingers(args.world) if args.world else None
        with FakeGripper(args.port, fingers) as fake:
            signal.signal(signal.SIGUSR1, lambda *_: fake.link.garble(GARBLED_S))     # for tests
            print(f'a 2F-85 listens at {args.port}', flush=True)
            while not stop.wait(0.2) and fake.alive:
                pass
    except OSError as e:    # DeviceError is one
        parser.exit(1, f'fake gripper: {e}\n')


if __name__ == '__main__':
    main()
