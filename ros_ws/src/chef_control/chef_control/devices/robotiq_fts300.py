# SPDX-License-Identifier: Apache-2.0
"""The Robotiq FTS-300 force/torque sensor over its serial port: data stream at 100 Hz, or Modbus RTU.

Robotiq, *FT 300-S Force Torque Sensor Instruction Manual*, section 4.4: slave 9, 19200 baud, 8N1; force and torque in
registers 180 to 185 (1/100 N, 1/1000 N m, signed); 0x0200 written to register 410 starts the data stream of frames
<0x20 0x4e> <6 signed 16-bit values, low byte first> <Modbus CRC, low byte first>; a series of 0xff, for half a second
or 50 times, stops it. Serial number in registers 510 to 513. It has 100 Hz by the stream only.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pymodbus.framer.rtu import FramerRTU

from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_control.devices.modbus import Modbus, NoAnswerError
from chef_control.devices.wrench import Processor, Tool, WrenchError
from chef_task.geometry import quat_multiply
from chef_task.settings import REQUIRED, option

WRENCH, OUTPUT_SELECT, SERIAL = 180, 410, 510   # registers
STREAM = 0x0200
HEADER = b'\x20\x4e'
FRAME_BYTES = 16
STREAM_HZ = 100.0
SCALE = np.array([100.0] * 3 + [1000.0] * 3)    # of the integers: per N, per N m
_STOP = b'\xff' * 50
_QUIET_S = 0.1      # without a byte: the stream is off


class StreamParser:
    """Frames from the bytes of the data stream, in whatever pieces they come.

    `bad`: bytes that belonged to no valid frame.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.bad = 0

    def feed(self, data: bytes) -> list[tuple[np.ndarray, int]]:
        """The wrenches [6] (N, N m) of the frames that are complete now, each with the bytes that followed it."""
        self._buffer += data
        out, at = [], 0
        while True:
            start = self._buffer.find(HEADER, at)
            if start < 0:   # the last byte may be the first of a header
                keep = 1 if self._buffer[at:].endswith(HEADER[:1]) else 0
                self.bad += len(self._buffer) - at - keep
                at = len(self._buffer) - keep
                break
            self.bad += start - at
            frame, at = bytes(self._buffer[start:start + FRAME_BYTES]), start
            if len(frame) < FRAME_BYTES:
                break
            if frame[-2:] == crc(frame[:-2]):
                at += FRAME_BYTES
                out.append((np.array(struct.unpack('<6h', frame[2:-2])) / SCALE, len(self._buffer) - at))
            else:           # what looks like a header may be data: only the byte is skipped
                self.bad, at = self.bad + 1, at + 1
        del self._buffer[:at]
        return out


def crc(data: bytes) -> bytes:
    """Modbus CRC-16, low byte first."""
    return FramerRTU.compute_CRC(data).to_bytes(2, 'big')     # which pymodbus gives with its bytes swapped


def frame(wrench) -> bytes:
    """The stream's frame of a wrench [6], N and N m; what is beyond 16 bits saturates."""
    values = np.clip(np.rint(np.asarray(wrench, float) * SCALE), -2**15, 2**15 - 1).astype(int)
    data = HEADER + struct.pack('<6h', *values)
    return data + crc(data)


@dataclass(frozen=True)
class Settings:
    """Settings of an FTS-300. All vectors are in the sensor's frame."""

    port: str = option(REQUIRED, 'serial port, best one of /dev/serial/by-id')
    baudrate: int = option(19200, 'baud', choices=(9600, 19200, 38400, 57600, 115200))
    slave: int = option(9, 'Modbus address', low=1, high=247)
    mode: str = option('stream', 'stream (100 Hz), or modbus (polled at poll_hz)', choices=('stream', 'modbus'))
    poll_hz: float = option(30.0, 'readings per second in mode modbus', low=1, high=100)
    serial: str = option('', 'serial number that it must have; empty: any')
    timeout_s: float = option(0.2, 's to wait for an answer', above=0, high=1)
    lost_s: float = option(0.5, 's without a valid reading after which it is lost', above=0, high=10)
    sign: int = option(1, '-1 if it reports what the tool does to the arm, not the reaction', choices=(1, -1))
    tare: bool = option(True, 'take what it reads at the start, but for the tool\'s weight, as zero')
    tare_s: float = option(0.5, 's of readings for that', above=0, high=10)
    tare_spread_n: float = option(2.0, 'N by which they may vary', above=0)
    filter_hz: float = option(0.0, 'cut-off of the low-pass; 0: none. It delays the force limit as well', low=0, below=50)
    tool_mass_kg: float = option(0.0, 'kg, of what hangs on the sensor', low=0, high=20)
    tool_com_m: tuple[float, ...] = option((0.0, 0.0, 0.0), 'm, its centre of mass', low=-1, high=1, size=3)
    mount: tuple[float, ...] = option((1.0, 0.0, 0.0, 0.0), 'orientation of the sensor on the frame tcp, w x y z',
                                       size=4)

    def __post_init__(self):
        if abs(np.linalg.norm(self.mount) - 1.0) > 0.01:
            raise ValueError(f'mount must be a unit quaternion, not {self.mount}')
        if self.filter_hz >= (STREAM_HZ if self.mode == 'stream' else self.poll_hz) / 2:
            raise ValueError(f'filter_hz must be below half the rate, not {self.filter_hz:g}')


class RobotiqFTS300:
    """An open sensor; see `chef_control.devices.device.Device`. Stream 'wrench'.

    Raises:
      DeviceError: it is missing, busy, does not answer, or is touched while it is tared.
    """

    Settings = Settings

    def __init__(self, settings: Settings, on_batch: OnBatch, on_lost: OnLost):
        self._s, self._on_batch, self._on_lost = settings, on_batch, on_lost
        self._streams = settings.mode == 'stream'
        rate_hz = STREAM_HZ if self._streams else settings.poll_hz
        self._processor = Processor(Tool(settings.tool_mass_kg, settings.tool_com_m), rate_hz, settings.filter_hz)
        self._parser = StreamParser()
        self._byte_ns = 10e9 / settings.baudrate
        self._newest = 0        # stamp, ns
        self._tare_readings = max(2, round(settings.tare_s * rate_hz))
        self._taring: list[np.ndarray] | None = None
        self._tared, self._tare_error = threading.Event(), ''
        self._lock = threading.Lock()
        self._closing, self._lost = threading.Event(), ''
        self._modbus = Modbus('the force sensor (Robotiq FTS-300)', settings.port, settings.baudrate, settings.slave,
                              settings.timeout_s)
        self._thread = threading.Thread(target=self._run, name='wrench', daemon=True)
        try:
            self._start()
        except OSError as e:
            self._modbus.close()
            raise DeviceError(self._gone(e)) from None
        except BaseException:
            self._modbus.close()
            raise
        if settings.tare:
            self._taring = []
        self._thread.start()
        try:
            if settings.tare:
                self._wait_tared()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._stop_stream()     # it may still stream from before, and answers nothing then
        registers = self._modbus.read_holding(SERIAL, 4)
        self.serial = b''.join(r.to_bytes(2, 'big') for r in registers).decode('ascii', 'replace').strip('\0 ')
        if self._s.serial and self.serial != self._s.serial:
            raise DeviceError(f'{self._modbus.what} at {self._modbus.path} has the serial number {self.serial!r}, not '
                              f'{self._s.serial!r}: are two sensors swapped?')
        if self._streams:
            self._start_stream()

    def _start_stream(self) -> None:
        """The stream itself is the answer: the one by Modbus may come after its first frame, or be lost in it."""
        for _ in range(Modbus.TRIES):
            self._modbus.post(OUTPUT_SELECT, [STREAM])
            end = time.monotonic() + max(self._s.timeout_s, 0.1)
            while time.monotonic() < end:
                if self._read_stream():
                    self._parser.bad = 0
                    return
        raise DeviceError(f'{self._modbus.what} at {self._modbus.path} answers, but does not start its data stream')

    def _stop_stream(self) -> None:
        port = self._modbus.port
        end = time.monotonic() + 3.0
        port.timeout = _QUIET_S
        while port.read(256):
            if time.monotonic() > end:
                raise DeviceError(f'{self._modbus.what} at {self._modbus.path} sends without end and cannot be '
                                  'stopped; is it another device, or another baud rate?')
            port.write(_STOP)
        port.timeout = self._s.timeout_s

    def _gone(self, e: OSError) -> str:
        return f'{self._modbus.what} at {self._modbus.path} is gone: the port was closed or unplugged ({e})'

    def orient(self, tcp_quaternion: Sequence[float]) -> None:
        """Tells the orientation w x y z of the frame tcp in the base's frame, for the tool's weight.

        Until the first call the sensor's z axis is taken to point down.
        """
        if self._s.tool_mass_kg:
            with self._lock:
                self._processor.orient(quat_multiply(np.asarray(tcp_quaternion), np.asarray(self._s.mount)))

    def send(self, command: dict) -> None:
        """{'command': 'tare'}: what the next `tare_s` read is zero; waits for it. DeviceError if that fails."""
        if command.get('command') != 'tare':
            raise DeviceError(f'{self._modbus.what} has no command {command.get("command")!r}')
        with self._lock:
            if self._lost or self._closing.is_set():
                raise DeviceError(self._lost or f'{self._modbus.what} is closed')
            self._tared.clear()
            self._taring = []
        self._wait_tared()

    def _wait_tared(self) -> None:
        done = self._tared.wait(self._s.tare_s * 3 + self._s.lost_s + 2.0)
        if not done or self._lost or self._tare_error:
            raise DeviceError(self._lost or f'{self._modbus.what}: '
                              f'{self._tare_error or "it gave too few readings to tare it"}')

    def _run(self) -> None:
        read = self._read_stream if self._streams else self._read_registers
        last, due = time.monotonic(), time.monotonic()
        try:
            while not self._closing.is_set():
                if not self._streams:
                    due = max(due + 1.0 / self._s.poll_hz, time.monotonic())
                    if self._closing.wait(due - time.monotonic()):
                        return
                readings = read()
                now = time.monotonic()
                if readings:
                    last = now
                    self._on_readings(readings)
                elif now - last > self._s.lost_s:
                    heard = f'{self._parser.bad} bytes that are no frame' if self._parser.bad else 'nothing'
                    raise DeviceError(f'{self._modbus.what} at {self._modbus.path} has sent no valid reading for '
                                      f'{now - last:.1f} s, but {heard}')
        except DeviceError as e:
            self._lose(str(e))
        except OSError as e:
            self._lose(self._gone(e))

    def _read_stream(self) -> list[tuple[int, np.ndarray]]:
        """Stamped readings; a frame was captured, as far as can be seen from here, when its first byte was sent."""
        port = self._modbus.port
        port.timeout = min(0.1, self._s.lost_s)
        data = port.read(max(1, min(port.in_waiting, 4096)))
        now = time.time_ns()
        return [(now - int((behind + FRAME_BYTES) * self._byte_ns), reading)
                for reading, behind in self._parser.feed(data)]

    def _read_registers(self) -> list[tuple[int, np.ndarray]]:
        before = time.time_ns()
        try:
            registers = self._modbus.read_holding(WRENCH, 6)
        except NoAnswerError:
            return []
        values = np.array(registers, np.uint16).astype(np.int16) / SCALE
        return [((before + time.time_ns()) // 2, values)]

    def _on_readings(self, readings: list[tuple[int, np.ndarray]]) -> None:
        samples = []
        for stamp, reading in readings:
            reading = self._s.sign * reading
            with self._lock:
                self._tare(reading)
                wrench = self._processor(reading).tolist()
            self._newest = stamp = max(stamp, self._newest + 1)
            samples.append({'stream': 'wrench', 'stamp': stamp, 'force': wrench[:3], 'torque': wrench[3:]})
        # what is not tared yet would look like a force
        if not self._s.tare or self._tared.is_set():
            self._on_batch(samples)

    def _tare(self, reading: np.ndarray) -> None:
        if self._taring is None:
            return
        self._taring.append(reading)
        if len(self._taring) >= self._tare_readings:
            self._tare_error = ''
            try:
                self._processor.tare(self._taring, self._s.tare_spread_n)
            except WrenchError as e:
                self._tare_error = str(e)
            self._taring = None
            self._tared.set()

    def _lose(self, text: str) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            self._lost = text
        self._tared.set()
        self._on_lost(text)

    def diagnostics(self) -> dict[str, int | float | str]:
        """For /diagnostics."""
        return {'serial': self.serial, 'bad_bytes': self._parser.bad, 'repeated_requests': self._modbus.failures,
                'bias_n': float(np.linalg.norm(self._processor.bias[:3]))}

    def close(self) -> None:
        """Stops the stream and lets go of the port."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
        try:
            if self._streams and not self._lost:
                self._stop_stream()
        except (DeviceError, OSError):
            pass        # it is gone
        finally:
            self._modbus.close()
