# SPDX-License-Identifier: Apache-2.0
"""Faults of what the graph works with: sensors, cameras, the disk, the learner and its files."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from random import Random

import offline
from cell import CAMERAS, Cell
from kind import NOTHING, Kind

# ---- sensors ------------------------------------------------------------------------------------

_STREAMS = {'joints': ('joints',), 'tcp': ('tcp_pose', 'tcp_twist'), 'gripper': ('gripper',), 'wrench': ('wrench',),
            'objects': ('objects',)}
_TOPIC = {'joints': ('joint_states',), 'wrench': ('wrench',)}


def sensors() -> list[Kind]:
    def device(kind: str, stream: str, *reasons: str, name: str = '', **fields) -> Kind:
        names = {f: fields.pop(f) for f in ('ends', 'blind') if f in fields}
        if stream in _TOPIC and kind in ('silence', 'delay', 'drop', 'clock_jump'):
            names.setdefault('blind', _TOPIC[stream])
        label = name or f'{kind}:{stream or "all"}'

        def inject(cell: Cell, rng: Random) -> int:
            return cell.device_fault(kind, stream=stream, seed=rng.randrange(2**31), **fields)

        return Kind(label, 'state', inject, reasons=reasons, **names)

    def of(reason: str, stream: str) -> str:
        return f'{reason}:({"|".join(_STREAMS[stream])})'

    def spike(cell: Cell, rng: Random) -> int:
        return cell.device_fault('spike', stream='wrench', amount=rng.choice((-1, 1)) * rng.uniform(25.0, 200.0),
                                 duration_s=rng.uniform(0.03, 0.1))

    every = list(_STREAMS)
    seen_by_gate = {'wrench': ('force_limit',), 'joints': ('limit_violated',)}
    jump = 'clock_jump', 'stale_sensor'
    return [
        *(device('silence', s, of('stale_sensor', s), duration_s=0.6) for s in every),
        *(device('nan', s, of('bad_sensor', s), duration_s=0.3) for s in every),
        *(device('absurd', s, of('bad_sensor', s), *seen_by_gate.get(s, ()), amount=1e6, duration_s=0.3)
          for s in every),
        *(device('freeze', s, of('stale_sensor', s), duration_s=1.5) for s in every),
        *(device('delay', s, of('stale_sensor', s), amount=0.4, duration_s=0.8) for s in every),
        device('drop', 'wrench', ends=NOTHING, amount=0.5, duration_s=0.5),
        Kind('spike:wrench', 'state', spike, reasons=('force_limit',)),
        *(device('clock_jump', s, *jump, name=f'clock_jump:{s or "all"}:{by:+g}s', amount=by, duration_s=0.6,
                 blind=('joint_states', 'wrench'))
          for s, by in (('', 5.0), ('', -5.0), ('wrench', 5.0), ('joints', -5.0), ('objects', 5.0))),
    ]


UNSEEN_M = 0.03     # somewhat more than Limits.frozen_motion_m, as a tick looks at 20 Hz


def cameras() -> list[Kind]:
    def one(kind: str, camera: str, *reasons: str, **fields) -> Kind:
        def inject(cell: Cell, rng: Random) -> int:
            return cell.device_fault(kind, stream='render', client=f'camera_{camera}', **fields)

        # of the simulated cameras a frozen one only shows by what moves in its picture
        return Kind(f'{kind}:one camera', 'pixels', inject, reasons=tuple(f'{r}:{camera}' for r in reasons),
                    unseen_m=UNSEEN_M if kind == 'freeze' else 0.0)

    left, right, back = CAMERAS
    return [
        one('freeze', left, 'stale_sensor', duration_s=1.5),
        one('silence', right, 'stale_sensor', duration_s=0.8),
        one('delay', back, 'stale_sensor', amount=0.5, duration_s=0.9),
        one('clock_jump', left, 'clock_jump', 'stale_sensor', amount=5.0, duration_s=0.6),
    ]


# ---- disk ---------------------------------------------------------------------------------------

def disk() -> list[Kind]:
    def full(cell: Cell, rng: Random) -> int:
        cell.resize_disk(4096 * rng.randrange(1, 16))
        return time.time_ns()

    def two_recorders(cell: Cell, rng: Random) -> int:
        now = time.time_ns()
        cell.problems = offline.second_recorder(cell)
        return now

    def power_cut(cell: Cell, rng: Random) -> int:
        """Takes the folder as it is at some moment within the recorder's writing."""
        now = time.time_ns()
        copy = cell.run.parent / f'{cell.run.name}-cut-{now}'
        shutil.copytree(cell.run / 'episodes', copy, ignore_dangling_symlinks=True)
        cell.problems, cell.lost_s = offline.recovered(copy, now)
        shutil.rmtree(copy)
        return now

    return [
        Kind('full disk', 'state', full, reasons=('recorder_lost', r'recorder:\s\S+'), small_disk=True, sealed=False,
             undo=lambda cell: cell.resize_disk(None)),
        Kind('two recorders', 'state', two_recorders, ends=NOTHING, waits=True),
        Kind('power cut', 'state', power_cut, ends=NOTHING, waits=True),
    ]


# ---- learner ------------------------------------------------------------------------------------

def learner() -> list[Kind]:
    def kill_publishing(cell: Cell, rng: Random) -> int:
        """SIGKILL while it writes a version."""
        pid, folder = cell.pid('learner'), cell.run / 'policies'
        end = time.monotonic() + 40.0
        while time.monotonic() < end:
            if any(folder.glob('.v*.partial')):
                os.kill(pid, signal.SIGKILL)
                return time.time_ns()
            time.sleep(0.0005)
        raise AssertionError('the learner published nothing')

    def damage(how: str) -> Kind:
        def inject(cell: Cell, rng: Random) -> int:
            """Before an episode, which begins while the learner publishes nothing newer."""
            policies = cell.run / 'policies'
            offline.wait_for_version(policies)
            with cell.held('learner'):
                cell.damaged.append((how, offline.damaged_version(policies, how, rng)))
                now = time.time_ns()
                cell.wait_until_moving(cell.position)
            return now

        return Kind(f'policy file:{how}', 'learner', inject, ends=NOTHING, waits=True,
                    check=lambda cell: offline.kept_the_old_policy(cell, dict(cell.damaged)[how]))

    base = Kind('kill:learner', 'learner', lambda cell, rng: cell.kill('learner'), ends=NOTHING, waits=True,
                line=r"node 'learner' was ended by SIGKILL; restart")
    return [
        base,
        replace(base, name='kill:learner publishing', inject=kill_publishing, check=offline.only_whole_versions),
        Kind('pause:learner', 'learner', lambda cell, rng: cell.pause('learner', 1.0), ends=NOTHING),
        *(damage(how) for how in ('truncated', 'bit flipped', 'no description')),
    ]
