# SPDX-License-Identifier: Apache-2.0
"""Whether the recorder keeps every message under load, and what that costs.

    ./chef bench recorder [--seconds 60] [--times 10]

The real recorder process beside processes that publish, by DDS, every stream of the simulated cell at TIMES its
rate, and besides three cameras of 640 x 480 at 20 Hz and F/T at 500 Hz at least. Every stamp that was sent
between the recorder's `recording` and the end must be in the bag; exit status 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rclpy
from _recorder_traffic import CELL_HZ, EPISODE, EVENT_HZ, EVENTS, WIDE
from rclpy.node import Node

from chef_bringup import domain
from chef_bringup.process import find_executable
from chef_control.node import to_time
from chef_msgs.msg import EpisodeInfo, RecorderState
from chef_task.bag.files import connections, mcap_files, raw_messages
from chef_task.messages import serialized_stamp_ns
from chef_task.qos import profile
from chef_task.rewards import TASKS
from chef_task.spaces import CAMERAS

SEALED_S = 120.0            # to wait for the seal: gigabytes go to the disk
GROUPS = ('small', 'cameras', 'wide')
TICK = os.sysconf('SC_CLK_TCK')


class Cell(Node):
    """Announces the episode and listens to the recorder's heartbeat."""

    def __init__(self):
        super().__init__('load')
        self._info = self.create_publisher(EpisodeInfo, 'episode', profile('state'))
        self.create_subscription(RecorderState, 'recorder/state', self._on_state, profile('state'))
        self.state = RecorderState()
        self.longest_stall_s, self._grew = 0.0, 0.0

    def _on_state(self, m: RecorderState) -> None:
        now = time.monotonic()
        if m.state != RecorderState.RECORDING or m.messages != self.state.messages:
            self._grew = now
        elif m.messages:
            self.longest_stall_s = max(self.longest_stall_s, now - self._grew)
        self.state = m

    def tell(self, event: int) -> None:
        self._info.publish(EpisodeInfo(event=event, episode_id=EPISODE, cell='cell_1', triplet=1, tasks=list(TASKS),
                                       metadata='{}', termination_reason='time_limit' if event else '',
                                       **{'header': _header()}))

    def wait(self, state: int, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        while self.state.state != state:
            rclpy.spin_once(self, timeout_sec=0.1)
            if self.state.state == RecorderState.FAILED:
                raise SystemExit(f'recorder: it failed: {self.state.error}')
            if time.monotonic() > end:
                raise SystemExit(f'recorder: not in state {state} within {deadline_s:g} s')


def _header():
    from std_msgs.msg import Header
    return Header(stamp=to_time(time.time_ns()))


def _cpu_s(pid: int) -> float:
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _peak_mib(pid: int) -> float:
    status = Path(f'/proc/{pid}/status').read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith('VmHWM')) / 1024


def _recorder(folder: Path, wide: bool) -> subprocess.Popen:
    words = [str(find_executable('chef_control', 'recorder', os.environ)), '--ros-args', '-r', '__ns:=/cell_1',
             '-p', f'run_dir:={folder}', '-p', 'observation:=pixels']
    if wide:
        words += ['-p', 'extra_topics:=' + ','.join(f'{t} sensor_msgs/msg/Image' for t in WIDE)]
    return subprocess.Popen(words, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def _line(process: subprocess.Popen, expected: str, cell: Cell) -> None:
    """Waits for a word of a traffic process, with the heartbeat listened to meanwhile."""
    os.set_blocking(process.stdout.fileno(), False)
    while True:
        rclpy.spin_once(cell, timeout_sec=0.05)
        text = process.stdout.readline()
        if text and text.strip() == expected:
            return
        if process.poll() is not None:
            raise SystemExit(f'recorder: traffic ended with status {process.returncode}')


def run(folder: Path, seconds: float, times: float, groups: tuple[str, ...]) -> dict[str, float]:
    """One run's figures; SystemExit if something does not work at all."""
    cell = Cell()
    recorder = _recorder(folder, 'wide' in groups)
    traffic = {g: subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name('_recorder_traffic.py')), g, str(seconds), str(times),
         str(folder / f'{g}.json')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for g in groups}
    try:
        for process in traffic.values():
            _line(process, 'ready', cell)
        cell.tell(EpisodeInfo.START)
        cell.wait(RecorderState.RECORDING, 20.0)
        cpu, start = _cpu_s(recorder.pid), time.monotonic()
        for process in traffic.values():
            print('go', file=process.stdin, flush=True)
        for process in traffic.values():
            _line(process, 'done', cell)
        cpu, took = _cpu_s(recorder.pid) - cpu, time.monotonic() - start
        print('last', file=traffic['small'].stdin, flush=True)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            rclpy.spin_once(cell, timeout_sec=0.05)
        cell.tell(EpisodeInfo.END)
        cell.wait(RecorderState.SEALED, SEALED_S)
        peak = _peak_mib(recorder.pid)
    finally:
        recorder.send_signal(signal.SIGINT)
        for process in traffic.values():
            process.terminate()
        for process in (recorder, *traffic.values()):
            process.wait(20.0)
        cell.destroy_node()
    sent = {f'/cell_1/{t}': set(s) for g in groups for t, s in json.loads((folder / f'{g}.json').read_text()).items()}
    bag = Path(cell.state.path)
    count = sum(c.msgcount for c in connections(bag, mcap_files(bag)))
    size = 0
    found: dict[str, set[int]] = {t: set() for t in sent}
    for c, _, data in raw_messages(bag, mcap_files(bag), lambda c: c.topic in sent):
        found[c.topic].add(serialized_stamp_ns(data))
        size += len(data)
    lost = {t: len(stamps - found[t]) for t, stamps in sent.items() if stamps - found[t]}
    total = sum(map(len, sent.values()))
    for topic, number in lost.items():
        print(f'lost: {number} of {len(sent[topic])} of {topic}', file=sys.stderr)
    return {'messages_s': total / took, 'mb_s': size / took / 1e6, 'sent': total, 'lost': sum(lost.values()),
            'cpu': 100 * cpu / took, 'peak': peak, 'stall': cell.longest_stall_s, 'recorded': count}


def cell_rate() -> tuple[float, float]:
    """Messages and MB a second of the simulated cell itself, images only in the latter."""
    messages = sum(CELL_HZ.values()) + EVENT_HZ * (len(EVENTS) + 1)
    return messages, sum(CELL_HZ[c] * 128 * 128 * 3 for c in CAMERAS) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench recorder', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60.0, help='of traffic a run (default: %(default)g)')
    parser.add_argument('--times', type=float, default=10.0, help='the rates of the cell (default: %(default)g)')
    parser.add_argument('--output', type=Path, help='folder for the bags, some 5 GB; a temporary one if not given')
    options = parser.parse_args()
    added, held = domain.variables(dict(os.environ), True)
    os.environ.update(added)
    rclpy.init(args=['--ros-args', '-r', '__ns:=/cell_1'])
    messages, mb = cell_rate()
    print(f'{os.cpu_count()} cores; {options.seconds:g} s a run; the cell itself: {messages:.0f} messages/s, '
          f'{mb:.1f} MB/s\n')
    print('| traffic | messages/s (x cell) | MB/s (x cell) | sent | lost | recorder CPU, % | peak, MiB | '
          'longest stall, s |')
    print('|---|---|---|---|---|---|---|---|')
    lost = 0
    runs = (('the cell', 1.0, ('small', 'cameras')), ('and 3 cameras 640x480', 1.0, GROUPS),
            (f'the cell x {options.times:g} and 3 cameras 640x480', options.times, GROUPS))
    with tempfile.TemporaryDirectory(dir=options.output) as folder:
        for i, (name, times, groups) in enumerate(runs):
            place = Path(folder) / str(i)
            place.mkdir()
            f = run(place, options.seconds, times, groups)
            lost += f['lost']
            print(f'| {name} | {f["messages_s"]:.0f} ({f["messages_s"] / messages:.1f}) | {f["mb_s"]:.1f} '
                  f'({f["mb_s"] / mb:.1f}) | {f["sent"]} | {f["lost"]} | {f["cpu"]:.0f} | {f["peak"]:.0f} | '
                  f'{f["stall"]:.2f} |', flush=True)
    if held is not None:
        held.release()
    return 1 if lost else 0


if __name__ == '__main__':
    sys.exit(main())
