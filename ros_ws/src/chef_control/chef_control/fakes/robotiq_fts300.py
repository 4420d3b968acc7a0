# SPDX-License-Identifier: Apache-2.0
"""A Robotiq FTS-300 without the hardware: pymodbus' RTU server and the data stream, on a pseudo-terminal.

With a wrench that is set by hand, or with that of a running simulated world, to which the weight of a tool is added:
the simulated sensor, unlike a real one, does not feel it.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time

import numpy as np
from pymodbus.simulator import DataType, SimData, SimDevice

from chef_control.devices.robotiq_fts300 import OUTPUT_SELECT, SCALE, SERIAL, STREAM, STREAM_HZ, WRENCH, frame
from chef_control.devices.wrench import Tool
from chef_control.fakes.modbus_server import ModbusThread
from chef_control.fakes.plan import Context, Fake
from chef_control.fakes.serial_link import GARBLED_S, SerialLink
from chef_sim.client import DeviceClient
from chef_task.geometry import quat_multiply

BIAS = (1.5, -2.0, 3.0, 0.05, -0.02, 0.01)      # N, N m: some, as every sensor has
TOOL = Tool(0.925, (0.0, 0.0, 0.058))           # a 2F-85
MOUNT = (0.70711, 0.0, 0.0, 0.70711)            # the simulated sensor on the frame tcp, w x y z


class WorldWrench:
    """What a simulated world's sensor would read if it felt its tool, and had a bias."""

    def __init__(self, socket: str, tool: Tool = TOOL, bias=BIAS):
        self._tool, self._bias = tool, np.asarray(bias, float)
        self._wrench, self._weight = np.zeros(6), np.zeros(6)
        self._client = DeviceClient(socket, 'fake force sensor', ('wrench', 'tcp'), on_batch=self._on_batch)

    def _on_batch(self, samples: list[dict]) -> None:
        for sample in samples:
            if sample['stream'] == 'tcp':
                self._weight = self._tool.weight(quat_multiply(np.array(sample['pose'][3:]), np.array(MOUNT)))
            else:
                self._wrench = np.array(sample['force'] + sample['torque'])

    def __call__(self) -> np.ndarray:
        return self._wrench + self._weight + self._bias

    @property
    def lost(self) -> str:
        return self._client.lost

    def close(self) -> None:
        self._client.close()


class FakeForceSensor:
    """Registers, stream and behaviour of an FTS-300, on `link.host_port`.

    wrench: what it measures, a function that gives [6], N and N m. noise_n: standard deviation of what it adds.
    """

    SERIAL_NUMBER = 'FTS-0042'

    def __init__(self, link: str = '', wrench=None):
        self.wrench = wrench or (lambda: np.asarray(BIAS))
        self.noise_n = 0.05
        self._random = np.random.default_rng(0)
        self._streaming = threading.Event()
        self._closing = threading.Event()
        self._received = b''
        self.link = SerialLink(link)
        self.link.on_host_bytes = self._on_bytes
        text = self.SERIAL_NUMBER.encode()
        serial = [int.from_bytes(text[i:i + 2], 'big') for i in range(0, 8, 2)]
        device = SimDevice(9, simdata=[SimData(WRENCH, 6, 0, DataType.REGISTERS),
                                       SimData(OUTPUT_SELECT, 1, 0, DataType.REGISTERS),
                                       SimData(SERIAL, 1, serial, DataType.REGISTERS)], action=self._on_access)
        self._server = ModbusThread(device, self.link.device_port, 19200)
        self._thread = threading.Thread(target=self._run, name='fake force sensor', daemon=True)
        self._thread.start()

    @property
    def streaming(self) -> bool:
        return self._streaming.is_set()

    def _on_bytes(self, data: bytes) -> bytes:
        """While it streams it answers nothing, and ends that after enough of 0xff."""
        if not self.streaming:
            return data
        self._received = (self._received + data)[-50:]
        if self._received == b'\xff' * 50:
            self._received = b''
            self._streaming.clear()
        return b''

    async def _on_access(self, function_code, start, address, count, registers, values) -> None:
        if values is not None:
            if address == OUTPUT_SELECT and values[0] == STREAM:
                self._streaming.set()
            return
        integers = np.clip(np.rint(self._measure() * SCALE), -2**15, 2**15 - 1).astype(np.int16)
        registers[WRENCH - start:WRENCH - start + 6] = integers.astype(np.uint16).tolist()

    def _measure(self) -> np.ndarray:
        noise = self._random.normal(size=6) * self.noise_n * [1, 1, 1, 0.02, 0.02, 0.02]
        return np.asarray(self.wrench(), float) + noise

    def _run(self) -> None:
        period = 1.0 / STREAM_HZ
        due = time.monotonic()
        while not self._closing.is_set():
            if self.streaming:
                self.link.inject(self.link.on_device_bytes(frame(self._measure())))
            due = max(due + period, time.monotonic() - 0.05)
            self._closing.wait(max(0.0, due - time.monotonic()))

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not getattr(self.wrench, 'lost', '')

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=5.0)
        self._server.close()
        self.link.close()
        if isinstance(self.wrench, WorldWrench):
            self.wrench.close()

    def __enter__(self) -> FakeForceSensor:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def fake(entry: dict, context: Context) -> Fake:
    """A process that measures the world's wrench and the weight of the tool that the config tells of."""
    port = str(context.folder / 'wrench')
    tool = [str(v) for v in (entry.get('tool_mass_kg', 0.0), *entry.get('tool_com_m', (0.0, 0.0, 0.0)))]
    device = {**entry, 'port': port, 'sign': 1, 'serial': '', 'mount': list(MOUNT),
              'lost_s': 5.0}     # it shares the processor with the whole cell
    return Fake(device, (__name__, '--port', port, '--world', context.world_socket, '--tool', *tool))


def main(argv: list[str] | None = None) -> None:
    """Plays an FTS-300 until it is interrupted or its world ends."""
    parser = argparse.ArgumentParser(prog='python -m chef_control.fakes.robotiq_fts300', description=main.__doc__)
    parser.add_argument('--port', required=True, help='path that is made to point to its serial port')
    parser.add_argument('--world', default='', help='socket of the simulated world whose wrench is measured')
    parser.add_argument('--tool', type=float, nargs=4, default=(TOOL.mass_kg, *TOOL.com_m), metavar=('KG', 'X', 'Y', 'Z'),
                        help='mass, and centre of mass in m, of what hangs on the sensor')
    args = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        wrench = WorldWrench(args.world, Tool(args.tool[0], tuple(args.tool[1:]))) if args.world else None
        with FakeForceSensor(args.port, wrench) as fake:
            signal.signal(signal.SIGUSR1, lambda *_: fake.link.garble(GARBLED_S))     # for tests
            print(f'an FTS-300 measures at {args.port}', flush=True)
            while not stop.wait(0.2) and fake.alive:
                pass
    except OSError as e:
        parser.exit(1, f'fake force sensor: {e}\n')


if __name__ == '__main__':
    main()
