# SPDX-License-Identifier: Apache-2.0
"""What happened, told by witnesses that none of the nodes can influence.

The device's own record of motion, the bags on disk read with the MCAP library alone, and /proc. All times are
ns of the wall clock, which in real time stamps everything.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from mcap.exceptions import McapError
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory

SENSORS = ('joint_states', 'wrench')        # sent at 100 Hz: what is missing shows within 10 ms
PERIOD_NS = 10_000_000
# Where the cameras see the fingers: camera_view_centre_m and camera_view_size_m of the cell.
VIEW_CENTRE_M, VIEW_SIZE_M = (0.6, 0.0, 0.095), (0.25, 0.25, 0.09)
PINCH_M = 0.2012    # of the fingers below the tool's frame


@dataclass(frozen=True)
class Motion:
    """When the device began and stopped to be driven: [(stamp, moving)], oldest first."""

    changes: list[tuple[int, bool]]

    @classmethod
    def read(cls, run: Path) -> Motion:
        path = run / 'logs' / 'world_motion.jsonl'
        lines = path.read_text().split('\n')[:-1] if path.exists() else []     # the last one may be half written
        return cls([(r['stamp'], r['moving']) for r in map(json.loads, lines)])

    @property
    def moving(self) -> bool:
        return bool(self.changes) and self.changes[-1][1]

    def at(self, stamp: int) -> bool:
        """Whether it was driven at that time."""
        return ([m for s, m in self.changes if s <= stamp] or [False])[-1]

    def stopped_after(self, stamp: int) -> int | None:
        """The first time from `stamp` on at which it was not driven; None: it still is."""
        if not self.at(stamp):
            return stamp
        return next((s for s, m in self.changes if s > stamp and not m), None)

    def rest_since(self, stamp: int) -> int:
        """The beginning of the rest that it was in at `stamp`."""
        return ([s for s, _ in self.changes if s <= stamp] or [stamp])[-1]

    def started_within(self, begin: int, end: int) -> list[int]:
        """The times within (begin, end) at which it began to be driven."""
        return [s for s, m in self.changes if m and begin < s < end]


@dataclass
class Record:
    """What a bag, whole or cut off, says. `logged`: when the recorder received its newest message."""

    messages: int = 0
    begun: int = 0                                  # capture stamp of the first Step
    logged: int = 0
    ended: int = 0                                  # log time of the episode's END, 0: none
    end_stamp: int = 0                              # its own stamp: of the last state
    reason: str = ''
    stops: list[tuple[int, str]] = field(default_factory=list)      # the gate's, (log time, reason)
    commands: list[tuple[int, bool]] = field(default_factory=list)  # to the arm: (log time, not zero)
    steps: int = 0
    named: dict[str, set[int]] = field(default_factory=dict)        # stream to the stamps that Steps name
    stamps: dict[str, list[int]] = field(default_factory=dict)      # topic to capture stamps
    policy: str = ''
    tool: list[tuple[int, tuple[float, ...]]] = field(default_factory=list)     # (capture stamp, position [3], m)

    def detected_after(self, fault: int, by_stamp: bool = False) -> int:
        """When the first of gate and episode node acted on it; 0: neither did.

        by_stamp: by the END's own stamp, as the recorder was late to log it.
        """
        end = self.end_stamp if by_stamp else self.ended
        times = [t for t, _ in self.stops if t >= fault and not by_stamp] + ([end] if end >= fault else [])
        return min(times, default=0)

    def moved_after(self, stamp: int) -> bool:
        """Whether a command other than zero went to the arm later than that."""
        return any(moving and t > stamp for t, moving in self.commands)

    def tool_moved_m(self, since: int) -> float:
        """How far the tool got where the cameras see it, from `since` to the end, from where it was first, m."""
        places = [place for stamp, place in self.tool if stamp >= since and _in_view(place)]
        return max((math.dist(places[0], p) for p in places), default=0.0)

    def longest_gap_s(self, leave_out: tuple[str, ...] = ()) -> float:
        """The longest time without a sample within the episode, of the fast sensors, s."""
        gaps = [0.0]
        for topic in set(SENSORS) - set(leave_out):
            last = self.end_stamp or self.logged
            stamps = sorted(s for s in self.stamps.get(topic, []) if self.begun <= s <= last)
            gaps += [(b - a - PERIOD_NS) * 1e-9 for a, b in zip(stamps, stamps[1:])]
        return max(gaps)


def _in_view(tcp: tuple[float, ...]) -> bool:
    """Whether the cameras see the fingers; the tool points down."""
    pinch = (tcp[0], tcp[1], tcp[2] - PINCH_M)
    return all(abs(x - centre) <= size / 2 for x, centre, size in zip(pinch, VIEW_CENTRE_M, VIEW_SIZE_M))


def read_record(folder: Path) -> Record:
    """Reads a bag's MCAP from front to back, as far as it goes; a cut-off end is no error."""
    record = Record()
    for path in sorted(folder.glob('*.mcap')):
        with open(path, 'rb') as f:
            _read(f, record)
    return record


def _read(stream, record: Record) -> None:
    factory, schemas, channels, decoders = DecoderFactory(), {}, {}, {}
    try:
        for r in StreamReader(stream).records:
            kind = type(r).__name__
            if kind == 'Schema':
                schemas[r.id] = r
            elif kind == 'Channel':
                channels[r.id] = (r.topic.split('/', 2)[-1], schemas[r.schema_id])
                decoders[r.id] = factory.decoder_for('cdr', schemas[r.schema_id])
            elif kind == 'Message':
                record.messages += 1
                record.logged = max(record.logged, r.log_time)
                topic, _ = channels[r.channel_id]
                _take(record, topic, r, decoders[r.channel_id])
    except (McapError, struct.error, EOFError, ValueError):
        pass        # it ends here


def _take(record: Record, topic: str, r, decode) -> None:
    if topic in SENSORS:
        seconds, nanoseconds = struct.unpack_from('<iI', r.data, 4)
        record.stamps.setdefault(topic, []).append(seconds * 10**9 + nanoseconds)
    elif topic == 'tcp_pose':
        m = decode(r.data)
        p = m.pose.position
        record.tool.append((m.header.stamp.sec * 10**9 + m.header.stamp.nanosec, (p.x, p.y, p.z)))
    elif topic == 'step':
        m = decode(r.data)
        record.steps += 1
        record.begun = record.begun or m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
        record.policy = m.policy_version or record.policy
        for name, t in zip(m.streams, m.stamps):
            record.named.setdefault(name, set()).add(t.sec * 10**9 + t.nanosec)
    elif topic == 'episode':
        m = decode(r.data)
        if m.event == 1:
            record.ended, record.reason = r.log_time, m.termination_reason
            record.end_stamp = m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
    elif topic == 'safety/state':
        m = decode(r.data)
        if m.stopped:
            record.stops.append((r.log_time, m.reason))
    elif topic == 'arm/velocity_command':
        record.commands.append((r.log_time, any(decode(r.data).velocity)))


def digest(folder: Path) -> str:
    """Of a bag's names and bytes."""
    return hashlib.sha256(b''.join(p.name.encode() + p.read_bytes() for p in sorted(folder.iterdir()))).hexdigest()


def sealed(run: Path) -> list[Path]:
    """The run's bags under their final names."""
    folder = run / 'episodes'
    return sorted(p for p in folder.iterdir() if (p / 'metadata.yaml').is_file() and not p.name.startswith('.')
                  and p.name != 'quarantine') if folder.is_dir() else []


def processes(variable: str) -> dict[int, str]:
    """Processes, zombies apart, with `NAME=value` in their environment: pid to command line."""
    found = {}
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if variable.encode() in (entry / 'environ').read_bytes().split(b'\0'):
                if (entry / 'stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z':
                    found[int(entry.name)] = (entry / 'cmdline').read_bytes().replace(b'\0', b' ').decode()
        except OSError:
            continue
    return found


def left_over(variable: str, deadline_s: float = 5.0) -> dict[int, str]:
    """What still runs after the deadline; {} as soon as nothing does."""
    end = time.monotonic() + deadline_s
    while (left := processes(variable)) and time.monotonic() < end:
        time.sleep(0.05)
    return left
