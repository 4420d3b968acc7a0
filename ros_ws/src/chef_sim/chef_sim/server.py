# SPDX-License-Identifier: Apache-2.0
"""The device server: a world on a Unix socket, in real time or in lockstep; see ARCHITECTURE.md."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping

from chef_task.cell import RATES_HZ
from chef_task.spaces import CONTROL_PERIOD_NS

from chef_sim.connections import Connections
from chef_sim.faults import Faults
from chef_sim.placement import PlacementError
from chef_sim.physics import PRESETS
from chef_sim.protocol import Command, Hello, Inject, Place, encode_sample
from chef_sim.world import STREAMS, World

_LOG = logging.getLogger(__name__)
SLICE_NS = 10_000_000
LOCKSTEP_START_NS = 1_000_000_000
_RESEND_S = 0.2         # s, between two sendings of the newest samples while time stands still
_MAX_LAG_S = 0.04       # s, behind real time before the world lets time pass without moving: its stamps lag too
_DEVICES = ('arm', 'gripper')


def _slices_per_sample(rates_hz: Mapping[str, float]) -> dict[str, int]:
    slices = {}
    for stream, hz in {**RATES_HZ, **rates_hz}.items():
        if stream not in STREAMS:
            raise ValueError(f'rates_hz: stream {stream!r} does not exist, choose of {", ".join(STREAMS)}')
        count = 1e9 / SLICE_NS / hz if hz > 0 else 0
        if count < 1 or count != int(count):
            raise ValueError(f'rates_hz: {stream} must be 100 Hz divided by a whole number, not {hz!r}')
        slices[stream] = int(count)
    return slices


class WorldServer:
    """Serves a world to the simulated drivers.

    Args:
      world: used from the server's thread only, from `run` on.
      path: of the socket.
      lockstep: advance by 50 ms for each pair of commands, instead of in real time.
      rates_hz: samples per second by stream, where they differ from `RATES_HZ`.
      lockstep_deadline_s: wall time to wait for the second command of a pair before velocities are zeroed.
      on_advance: called with the stamp, ns, at the start, after each advance and with each sending again of
        the newest samples; in the server's thread.
    """

    def __init__(self, world: World, path: str, *, lockstep: bool = False,
                 rates_hz: Mapping[str, float] | None = None, lockstep_deadline_s: float = 30.0,
                 on_advance: Callable[[int], None] | None = None):
        if not lockstep_deadline_s > 0:
            raise ValueError(f'lockstep_deadline_s must be positive, not {lockstep_deadline_s!r}')
        self.world, self.lockstep = world, lockstep
        self._every = _slices_per_sample(rates_hz or {})
        self._deadline_s, self._on_advance = lockstep_deadline_s, on_advance or (lambda stamp_ns: None)
        self._slices = 0
        self._faults = Faults()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._arrived: dict[str, float] = {}  # device to wall time, for the current stamp
        self._connections = Connections(path, self._hello, self._packet)
        # stamps never go back, whatever the world's own start was
        start = LOCKSTEP_START_NS if lockstep else time.time_ns()
        world.skip(start - world.stamp_ns)
        self._newest = self._samples(STREAMS)

    def _hello(self, hello: Hello) -> dict:
        w = self.world
        return {'hello': 'world', 'physics': w.physics.name, 'lockstep': self.lockstep,
                'stamp': w.stamp_ns, 'triplet': w.triplet, 'period': CONTROL_PERIOD_NS,
                'rates': {s: 1e9 / SLICE_NS / n for s, n in self._every.items()},
                'nq': int(w.model.nq)}

    def _packet(self, packet: Command | Place | Inject, answer: Callable[[dict], None]) -> None:
        if isinstance(packet, Inject):
            self._inject(packet)
            answer({'response': packet.id, 'ok': True, 'error': '', 'stamp': self.world.stamp_ns})
            return
        if isinstance(packet, Place):
            answer({'response': packet.id, **self._place(packet)})
            return
        if packet.device == 'arm':
            self.world.command_arm(packet.velocity, packet.stamp_ns)
        else:
            self.world.command_gripper(packet.velocity[0], packet.stamp_ns)
        if packet.stamp_ns == self.world.stamp_ns:
            self._arrived.setdefault(packet.device, time.monotonic())

    def _place(self, request: Place) -> dict:
        try:
            if request.triplet is None or request.triplet == self.world.triplet:
                self.world.place(request.seed)
            else:
                self.world.set_triplet(request.triplet, request.seed)
        except (PlacementError, ValueError) as e:
            return {'ok': False, 'error': str(e)}
        self._newest = self._samples(STREAMS)
        return {'ok': True, 'error': ''}

    def _inject(self, packet: Inject) -> None:
        if packet.fault is None:
            self._faults.clear()
        else:
            self._faults.start(packet.fault, self.world.stamp_ns)
        _LOG.info('faults: %s', packet.fault or 'cleared')

    def _samples(self, streams) -> list[dict]:
        return [self.world.sample(s) for s in streams]

    def _broadcast(self, samples: list[dict], only_idle: bool = False) -> None:
        stamp = self.world.stamp_ns
        if not self._faults.any(stamp):
            self._connections.broadcast(stamp, [(s['stream'], encode_sample(s)) for s in samples], only_idle)
            return

        def own(name: str, streams: frozenset[str]) -> list[bytes]:
            wanted = [s for s in samples if s['stream'] in streams]
            return [encode_sample(s) for s in self._faults.alter(name, wanted, stamp)]

        self._connections.broadcast_each(stamp, own)

    def _advance(self, slices: int) -> None:
        """Advances and sends the samples: all but the last slice's before it, so that drivers work beside it."""
        batch = []
        for k in range(slices):
            self.world.advance(SLICE_NS)
            self._slices += 1
            batch += self._samples(s for s, n in self._every.items() if self._slices % n == 0)
            # one packet a client for several slices: sending wakes them
            if k >= slices - 2 and (batch or self._faults.any(self.world.stamp_ns)):
                self._broadcast(batch)
                batch = []
        self._on_advance(self.world.stamp_ns)

    def run(self) -> None:
        """Serves until `stop`, then closes the socket."""
        try:
            self._on_advance(self.world.stamp_ns)
            if self.lockstep:
                self._run_lockstep()
            else:
                self._run_real_time()
        finally:
            self._connections.close()

    def _run_real_time(self) -> None:
        # From here on stamps follow the monotonic clock: what the start took would be an age of all of them.
        self.world.skip(time.time_ns() - self.world.stamp_ns)
        due = time.monotonic() + SLICE_NS * 1e-9
        while not self._stop.is_set():
            wait = due - time.monotonic()
            self._connections.poll(wait)
            lag = time.monotonic() - due
            if lag < 0:
                continue
            if lag > _MAX_LAG_S:  # placing, or a computer that is too slow: nothing moved meanwhile
                _LOG.info('the world let %.0f ms pass', lag * 1e3)
                self.world.skip(int(lag * 1e9))
                due += lag
            self._advance(1)
            due += SLICE_NS * 1e-9

    def _run_lockstep(self) -> None:
        slices = CONTROL_PERIOD_NS // SLICE_NS
        resend = time.monotonic()
        while not self._stop.is_set():
            if len(self._arrived) == len(_DEVICES):
                self._arrived.clear()
                self._advance(slices)
                self._newest = None
                resend = time.monotonic() + _RESEND_S
            self._connections.poll(resend - time.monotonic())
            now = time.monotonic()
            if len(self._arrived) == 1 and now - min(self._arrived.values()) > self._deadline_s:
                missing = next(d for d in _DEVICES if d not in self._arrived)
                _LOG.warning('no command for the %s within %g s: velocities are zero until the next one',
                             missing, self._deadline_s)
                self.world.stop()
                self._arrived = {d: float('inf') for d in self._arrived}  # said once a stamp
            if now >= resend:
                resend = now + _RESEND_S
                if self._newest is None:
                    self._newest = self._samples(STREAMS)
                self._on_advance(self.world.stamp_ns)
                self._broadcast(self._newest, only_idle=True)

    @property
    def alive(self) -> bool:
        """Whether the thread of `start` still runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> WorldServer:
        """Runs in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name='world', daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends `run`; waits for the thread of `start`. From any thread, and from a signal's handler."""
        self._stop.set()
        self._connections.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)

    def __enter__(self) -> WorldServer:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()


def main(argv: list[str] | None = None) -> None:
    """Serves a world until it is interrupted."""
    parser = argparse.ArgumentParser(prog='python -m chef_sim.server', description=main.__doc__)
    parser.add_argument('--socket', required=True, help='path of the Unix socket')
    parser.add_argument('--triplet', type=int, default=1, help='objects, 1..5 (default 1)')
    parser.add_argument('--physics', default='exact', choices=sorted(PRESETS))
    parser.add_argument('--seed', type=int, default=0, help='of the first places of the objects')
    parser.add_argument('--lockstep', action='store_true', help='50 ms for each pair of commands')
    parser.add_argument('--lockstep-deadline-s', type=float, default=30.0)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s: %(message)s')
    try:
        world = World(args.triplet, args.physics, args.seed)
        server = WorldServer(world, args.socket, lockstep=args.lockstep,
                             lockstep_deadline_s=args.lockstep_deadline_s)
    except (ValueError, OSError) as e:
        parser.exit(1, f'chef_sim: {e}\n')
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    server.run()


if __name__ == '__main__':
    main()
