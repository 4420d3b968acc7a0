# SPDX-License-Identifier: Apache-2.0
"""Serial ports and Modbus RTU over them: opened exclusively, every wait bounded, every error one line."""

from __future__ import annotations

import contextlib
import errno
import logging
import os

import serial
from pymodbus.client import ModbusSerialClient
from pymodbus.exceptions import ConnectionException, ModbusException

from chef_control.devices.device import DeviceError

# What pymodbus has to say of an exchange is said here, once and with the device's name.
logging.getLogger('pymodbus.logging').setLevel(logging.CRITICAL)


def open_port(what: str, path: str, baudrate: int, timeout_s: float) -> serial.Serial:
    """A serial port, 8N1, that no other program of this machine has or gets.

    Args:
      what: the device, for messages.
      timeout_s: of each read and write.

    Raises:
      DeviceError: there is no such port, it may not be opened, or another program has it.
    """
    try:
        port = serial.Serial(path, baudrate, timeout=timeout_s, write_timeout=timeout_s, exclusive=True)
    except ValueError as e:
        raise DeviceError(f'{what} at {path}: {e}') from None
    except OSError as e:    # serial.SerialException is one
        raise DeviceError(f'{what} at {path}: {_cause(path, e)}') from None
    # FTDI adapters hold received bytes back for 16 ms if not told otherwise; a pseudo-terminal has no such setting.
    with contextlib.suppress(ValueError, OSError):
        port.set_low_latency_mode(True)
    return port


def _cause(path: str, e: OSError) -> str:
    if e.errno == errno.ENOENT or not os.path.exists(path):
        return 'there is no such port; is it plugged in and powered?'
    if e.errno == errno.EACCES:
        return 'this user may not open it; add the user to the group dialout'
    if e.errno in (errno.EBUSY, errno.EAGAIN) or 'exclusively lock' in str(e):
        return 'the port is busy: another program has it'
    return os.strerror(e.errno) if e.errno else str(e)


class Modbus:
    """A Modbus RTU slave on a port of its own.

    `failures` counts exchanges that got no valid answer and were tried again.

    Args:
      what: the device, for messages, e.g. 'Robotiq 2F-85'.
      slave: its Modbus address.
      timeout_s: for the answer to one request.
    """

    TRIES = 2   # of a request: a byte that was lost on the wire is no fault yet

    def __init__(self, what: str, path: str, baudrate: int, slave: int, timeout_s: float):
        self.what, self.path, self._slave = what, path, slave
        self.failures = 0
        self.port = open_port(what, path, baudrate, timeout_s)
        self._client = ModbusSerialClient(path, baudrate=baudrate, timeout=timeout_s, retries=0)
        self._client.socket = self.port

    def read_input(self, address: int, count: int) -> list[int]:
        """Registers by function code 4."""
        return self._ask(4, lambda: self._client.read_input_registers(address, count=count, device_id=self._slave), count)

    def read_holding(self, address: int, count: int) -> list[int]:
        """Registers by function code 3."""
        return self._ask(3, lambda: self._client.read_holding_registers(address, count=count, device_id=self._slave),
                         count)

    def write(self, address: int, values: list[int]) -> None:
        """Registers by function code 16."""
        self._ask(16, lambda: self._client.write_registers(address, values, device_id=self._slave), 0)

    def post(self, address: int, values: list[int]) -> None:
        """Writes registers without waiting for the answer; PortGoneError if the port is gone."""
        try:
            self._client.write_registers(address, values, device_id=self._slave, no_response_expected=True)
        except (ConnectionException, OSError):
            raise self._gone() from None

    def _gone(self) -> PortGoneError:
        self.close()
        return PortGoneError(f'{self.what} at {self.path} is gone: the port was closed or unplugged')

    def _ask(self, function: int, request, count: int) -> list[int]:
        """An exchange; DeviceError if it fails `TRIES` times in a row, or at once where the port is gone."""
        cause = ''
        for _ in range(self.TRIES):
            if self._client.socket is None:     # pymodbus would open it anew, whatever is there now
                raise self._gone()
            try:
                answer = request()
            except ConnectionException:
                raise self._gone() from None
            except (ModbusException, ValueError, IndexError) as e:
                cause = 'no valid answer' if 'No response' in str(e) else str(e)
            else:
                if answer.isError():
                    raise DeviceError(f'{self.what} at {self.path} refused a request: Modbus exception '
                                      f'{answer.exception_code}; is it another device?')
                # The late answer to the request before may come instead: RTU frames have no number.
                if answer.function_code == function and len(answer.registers) == count:
                    return answer.registers
                cause = 'the answer to another request'
            self.failures += 1
        raise NoAnswerError(f'{self.what} at {self.path} does not answer as slave {self._slave}: {cause} within '
                            f'{self._client.comm_params.timeout_connect:g} s, {self.TRIES} times; is it powered, and '
                            'are port, baud rate and slave right?')

    def close(self) -> None:
        self._client.socket = None
        with contextlib.suppress(OSError):
            self.port.close()


class NoAnswerError(DeviceError):
    """A request got no valid answer; the next one may."""


class PortGoneError(DeviceError):
    """The port itself is gone; it has to be opened anew."""
