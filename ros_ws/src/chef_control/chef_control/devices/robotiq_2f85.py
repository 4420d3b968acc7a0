# SPDX-License-Identifier: Apache-2.0
"""The Robotiq 2F-85 gripper over Modbus RTU.

Registers, their bits and the meaning of faults: Robotiq, *2F-85 & 2F-140 Instruction Manual*, sections 4.2 to 4.5 (register
mapping; robot output and input registers) and 4.7 (Modbus RTU: slave 9, 115200 baud, 8N1, output from 0x03E8 and input
from 0x07D0, function codes 3, 4, 16, 23). Speed: 20 to 150 mm/s over 85 mm; force: 20 to 235 N.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_control.devices.modbus import Modbus, NoAnswerError
from chef_task.settings import REQUIRED, option
from chef_task.spaces import GRASP_INWARD, GRASP_NONE, GRASP_OUTWARD, GRIPPER_CLOSED

OUTPUT, INPUT = 0x03E8, 0x07D0      # first register of what the gripper is told, and of what it tells
REGISTERS = 3                       # of each
SPEED_MM_S = (20.0, 150.0)          # of speed register 0 and 255
FORCE_N = (20.0, 235.0)             # of force register 0 and 255
ACTIVATE, GO_TO = 0x01, 0x08        # bits of ACTION REQUEST: rACT, rGTO
ACTIVATED = 3                       # gSTA
MOVING, OPENING_CONTACT, CLOSING_CONTACT, AT_POSITION = range(4)    # gOBJ
FAULTS = {
    0x05: 'action delayed, the activation must be completed first', 0x07: 'the activation bit is not set',
    0x08: 'too hot, it has to cool down', 0x09: 'no communication for a second',
    0x0A: 'supply voltage too low', 0x0B: 'automatic release in progress', 0x0C: 'internal fault',
    0x0D: 'activation fault, something was in the way', 0x0E: 'overcurrent', 0x0F: 'automatic release completed',
}
MAJOR_FAULT = 0x0A                  # from here on only a reset helps


@dataclass(frozen=True)
class Status:
    """What the gripper tells of itself; names and values of the manual's registers.

    activated: gACT. going: gGTO. state: gSTA. object: gOBJ, which means something only while `going`. fault: gFLT.
    requested: gPR, echo of the position asked for. position: gPO, 0 open..255 closed. current_a: gCU, A.
    """

    activated: bool
    going: bool
    state: int
    object: int
    fault: int
    requested: int
    position: int
    current_a: float

    @classmethod
    def parse(cls, registers: list[int]) -> Status:
        """From the registers [3] at INPUT, whose high bytes come first."""
        status, fault, requested = registers[0] >> 8, registers[1] >> 8, registers[1] & 0xFF
        return cls(bool(status & 0x01), bool(status & 0x08), status >> 4 & 3, status >> 6, fault & 0x0F, requested,
                   registers[2] >> 8, (registers[2] & 0xFF) / 100)

    def grasp(self, requested: int) -> int:
        """GRASP_*; requested: position that was asked for, whose echo tells that the status is of that move."""
        if not self.going or self.requested != requested:
            return GRASP_NONE
        return {CLOSING_CONTACT: GRASP_INWARD, OPENING_CONTACT: GRASP_OUTWARD}.get(self.object, GRASP_NONE)


@dataclass(frozen=True)
class Move:
    """What the gripper is told. going: rGTO, False stops it. position: rPR. speed: rSP. force: rFR, 0..255 each."""

    going: bool
    position: int = 0
    speed: int = 0
    force: int = 0

    def registers(self) -> list[int]:
        """For OUTPUT, [3]; the gripper stays activated."""
        return [(ACTIVATE | GO_TO * self.going) << 8, self.position, self.speed << 8 | self.force]


@dataclass(frozen=True)
class Settings:
    """Settings of a 2F-85."""

    port: str = option(REQUIRED, 'serial port, best one of /dev/serial/by-id')
    baudrate: int = option(115200, 'baud', choices=(9600, 19200, 38400, 57600, 115200))
    slave: int = option(9, 'Modbus address', low=1, high=247)
    rate_hz: float = option(20.0, 'readings per second', low=5, high=100)
    timeout_s: float = option(0.1, 's to wait for an answer', above=0, high=1)
    lost_s: float = option(0.5, 's without an answer after which it is lost', above=0, high=10)
    activate: bool = option(True, 'activate it if need be, which opens and closes it fully; false: refuse')
    activate_s: float = option(10.0, 's that the activation may take', above=0, high=60)
    full_speed_mm_s: float = option(85.0, 'mm/s of the velocity 1; slower than 20 mm/s it cannot move', low=20, high=150)
    force_n: float = option(40.0, 'N at which the fingers stop', low=20, high=235)
    dead_band: float = option(0.02, 'a velocity below that is a stop', low=0, below=1)
    command_age_s: float = option(0.1, 's after which a command is no longer obeyed', above=0, high=0.5)


class Robotiq2F85:
    """An open and activated gripper; see `chef_control.devices.device.Device`. Stream 'gripper'.

    A command is a velocity v in [-1, 1]: the gripper goes towards closed (v > 0) or open at |v| * `full_speed_mm_s`
    until the next command, or for `command_age_s` from its stamp.

    Raises:
      DeviceError: it is missing, busy, does not answer, or cannot be activated.
    """

    Settings = Settings

    def __init__(self, settings: Settings, on_batch: OnBatch, on_lost: OnLost):
        self._s, self._on_batch, self._on_lost = settings, on_batch, on_lost
        self._force = _register(settings.force_n, FORCE_N)
        self._modbus = Modbus('the gripper (Robotiq 2F-85)', settings.port, settings.baudrate, settings.slave,
                              settings.timeout_s)
        self._lock = threading.Condition()
        self._wanted, self._expires = Move(False), math.inf     # expires: on the monotonic clock, s
        self._closing, self._lost = False, ''
        self._sent: Move | None = None      # what the gripper was told last, None: unknown
        self._before: tuple[int, int] | None = None     # stamp, ns, and position
        self._stops = 0
        self.status: Status | None = None
        try:
            self._activate()
            self._tell(Move(False))
        except BaseException:
            self._modbus.close()
            raise
        self._thread = threading.Thread(target=self._run, name='gripper', daemon=True)
        self._thread.start()

    def _activate(self) -> None:
        """Leaves an activated gripper as it is: activation moves the fingers."""
        status = self._read()
        if status.activated and status.state == ACTIVATED and status.fault < MAJOR_FAULT:
            return
        if not self._s.activate:
            raise DeviceError(f'{self._modbus.what} is not activated{self._fault(status)}, and `activate` is false')
        self._modbus.write(OUTPUT, [0, 0, 0])   # a rising edge of rACT is what activates, and what clears faults
        self._await(lambda s: s.state == 0, 'reset')
        self._modbus.write(OUTPUT, [ACTIVATE << 8, 0, 0])
        self._await(lambda s: s.activated and s.state == ACTIVATED, 'become active')

    def _await(self, reached, what: str) -> None:
        end = time.monotonic() + self._s.activate_s
        while True:
            status = self._read()
            if reached(status):
                return
            if time.monotonic() > end:
                raise DeviceError(f'{self._modbus.what} did not {what} within {self._s.activate_s:g} s'
                                  f'{self._fault(status)}')
            time.sleep(0.02)

    def _fault(self, status: Status) -> str:
        return f': {FAULTS.get(status.fault, f"fault {status.fault}")}' if status.fault else ''

    def _read(self) -> Status:
        """Reads the status, into `status` as well."""
        self.status = Status.parse(self._modbus.read_input(INPUT, REGISTERS))
        return self.status

    def _tell(self, move: Move) -> None:
        self._sent = None
        self._modbus.write(OUTPUT, move.registers())
        self._sent = move

    def send(self, command: dict) -> None:
        """{'command': 'gripper', 'stamp': ns, 'velocity': v}; DeviceError if it is lost or v is no number."""
        velocity = command['velocity']
        if not isinstance(velocity, (int, float)) or not math.isfinite(velocity):
            raise DeviceError(f'the velocity of the gripper must be a finite number, not {velocity!r}')
        # a stamp from the future must not outlive the watchdog
        age_s = max(0.0, (time.time_ns() - command['stamp']) * 1e-9)
        with self._lock:
            if self._lost or self._closing:
                raise DeviceError(self._lost or f'{self._modbus.what} is closed')
            move = self._move(velocity) if age_s < self._s.command_age_s else Move(False)
            self._expires = time.monotonic() + self._s.command_age_s - age_s if move.going else math.inf
            if move != self._wanted:
                self._wanted = move
                self._lock.notify()

    def _move(self, velocity: float) -> Move:
        if abs(velocity) <= self._s.dead_band:
            return Move(False)
        speed = _register(min(abs(velocity), 1.0) * self._s.full_speed_mm_s, SPEED_MM_S)
        return Move(True, GRIPPER_CLOSED if velocity > 0 else 0, speed, self._force)

    def _run(self) -> None:
        period = 1.0 / self._s.rate_hz
        due = answered = time.monotonic()
        while True:
            with self._lock:
                while not self._closing and self._wanted == self._sent:
                    wait = min(due, self._expires) - time.monotonic()
                    if wait <= 0:
                        break
                    self._lock.wait(wait)
                if self._closing:
                    return
                if time.monotonic() >= self._expires:
                    self._wanted, self._expires = Move(False), math.inf
                    self._stops += 1
                wanted = self._wanted
            try:
                if wanted != self._sent:
                    self._tell(wanted)
                if time.monotonic() >= due:
                    due = max(due + period, time.monotonic())
                    self._sample()
                answered = time.monotonic()
            except NoAnswerError as e:
                if time.monotonic() - answered > self._s.lost_s:
                    return self._lose(str(e))
            except DeviceError as e:
                return self._lose(str(e))

    def _sample(self) -> None:
        before = time.time_ns()
        status = self._read()
        stamp = (before + time.time_ns()) // 2      # the gripper answers at some time in between
        if status.fault >= MAJOR_FAULT or not status.activated or status.state != ACTIVATED:
            raise DeviceError(f'{self._modbus.what} is no longer active{self._fault(status)}')
        velocity = 0.0
        if self._before is not None:
            stamp = max(stamp, self._before[0] + 1)
            velocity = (status.position - self._before[1]) * 1e9 / (stamp - self._before[0])
        self._before = stamp, status.position
        grasp = status.grasp(self._sent.position) if self._sent and self._sent.going else GRASP_NONE
        self._on_batch([{'stream': 'gripper', 'stamp': stamp, 'position': status.position, 'velocity': velocity,
                         'grasp': grasp}])

    def _lose(self, text: str) -> None:
        with self._lock:
            if self._closing:
                return
            self._lost = text
        self._on_lost(text)

    def diagnostics(self) -> dict[str, int | float | str]:
        """For /diagnostics."""
        status = self.status
        return {'stops_by_watchdog': self._stops, 'repeated_requests': self._modbus.failures,
                'fault': FAULTS.get(status.fault, str(status.fault)) if status.fault else '',
                'motor_current_a': status.current_a}

    def close(self) -> None:
        """Stops the fingers and lets go of the port."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout=5.0)
        try:
            if self._sent != Move(False):
                self._tell(Move(False))
        except DeviceError:
            pass        # it is gone: there is nobody to tell
        finally:
            self._modbus.close()


def _register(value: float, limits: tuple[float, float]) -> int:
    """The register 0..255 of a value between the limits of its range."""
    low, high = limits
    return round(255 * min(max((value - low) / (high - low), 0.0), 1.0))
