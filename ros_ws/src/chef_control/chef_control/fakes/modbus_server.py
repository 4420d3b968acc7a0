# SPDX-License-Identifier: Apache-2.0
"""pymodbus' own RTU server on a serial port, in a thread."""

from __future__ import annotations

import asyncio
import logging
import threading

from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import SimDevice


class ModbusThread:
    """Serves a device's registers on a port until `close`.

    Args:
      device: its registers; its action, if any, runs in the server's thread.
    """

    def __init__(self, device: SimDevice, port: str, baudrate: int):
        logging.getLogger('pymodbus.logging').setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._ready, self._error = threading.Event(), None
        self._server: ModbusSerialServer | None = None
        self._thread = threading.Thread(target=self._run, args=(device, port, baudrate), name='modbus server',
                                        daemon=True)
        self._thread.start()
        if not self._ready.wait(10.0) or self._error:
            raise OSError(f'the Modbus server at {port} did not start: {self._error}')

    def _run(self, device: SimDevice, port: str, baudrate: int) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(device, port, baudrate))
        except Exception as e:
            self._error = e
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self, device: SimDevice, port: str, baudrate: int) -> None:
        # A real slave keeps silent when it is asked for by another address.
        self._server = ModbusSerialServer(device, port=port, baudrate=baudrate, ignore_missing_devices=True)
        await self._server.serve_forever(background=True)
        self._done = asyncio.Event()
        self._ready.set()
        await self._done.wait()
        await self._server.shutdown()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(timeout=5.0)
