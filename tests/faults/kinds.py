# SPDX-License-Identifier: Apache-2.0
"""The kinds of faults: how each is injected and what must come of it.

`reasons` are those that an episode's record may give for it, as regular expressions; where two layers see the same
fault, the one that is first gives its own. An injection returns the time of the fault, ns of the wall clock.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import offline
from cell import CAMERAS, NODES, Cell

# what a fault ends: the graph; the episode; nothing; or, where it is close to a limit, nothing or the episode
GRAPH, EPISODE, NOTHING, EITHER = 'graph', 'episode', 'nothing', 'either'


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    name: unique. profile: the graph it is put into. ends: what it ends. line: what the graph must print, a regular
    expression. blind: topics that are silent or late because of the fault itself, so that their gaps are no loss.
    resumes: the device itself, and with it the arm, stands still, and is judged from when it goes on. latched:
    a stop lasts until the next reset. sealed: the bag gets its final name. recorder_late: the recorder stands still, so
    its log times are none. waits: it is injected some time, not within the episode that runs. small_disk: wants a disk
    of its own. undo: what ends it, before the next episode. check: problems of its own, after the rest.
    """

    name: str
    profile: str
    inject: Callable[[Cell, Random], int]
    ends: str = EPISODE
    reasons: tuple[str, ...] = ()
    line: str = ''
    blind: tuple[str, ...] = ()
    resumes: bool = False
    latched: bool = True
    sealed: bool = True
    recorder_late: bool = False
    waits: bool = False
    small_disk: bool = False
    undo: Callable[[Cell], None] | None = None
    check: Callable[[Cell], list[str]] | None = None


def _kinds() -> list[Kind]:
    return [*_killed(), *_paused(), *_topics(), *_operator(), *_sensors(), *_cameras(), *_disk(), *_learner()]


# ---- processes ----------------------------------------------------------------------------------

# Death is told to the gate at once, but whoever misses the dead node's messages may be faster.
_ON_DEATH = {
    'world': ('stale_sensor',), 'arm': ('stale_sensor',), 'gripper': ('stale_sensor',), 'wrench': ('stale_sensor',),
    'tracker': ('stale_sensor',), 'controller': ('stale_command',), 'safety': ('safety_lost', 'stale_sensor', 'shutdown'),
    'episode': ('episode_node_lost', 'shutdown'), 'policy': ('policy_late',), 'recorder': ('recorder_lost',),
    **{f'camera_{c}': ('stale_sensor',) for c in CAMERAS},
}


def _killed() -> list[Kind]:
    def kill(node: str) -> Kind:
        return Kind(
            f'kill:{node}', 'pixels' if node.startswith('camera') else 'state', lambda cell, rng: cell.kill(node), GRAPH,
            reasons=('node_lost', *_ON_DEATH.get(node, ())), line=f"required node '{node}' was ended by SIGKILL",
            blind={'world': ('joint_states', 'wrench'), 'arm': ('joint_states',), 'wrench': ('wrench',)}.get(node, ()),
            sealed=node != 'recorder', check=offline.recovers if node == 'recorder' else None)

    def kill_supervisor(cell: Cell, rng: Random) -> int:
        now = time.time_ns()
        cell.graph.process.kill()
        return now

    def interrupt(number: signal.Signals) -> Kind:
        def inject(cell: Cell, rng: Random) -> int:
            now = time.time_ns()
            cell.graph.process.send_signal(number)
            return now

        return Kind(f'stop:{number.name}', 'state', inject, GRAPH, reasons=('cancelled', 'shutdown'),
                    line=f'{number.name}: stopping')

    # Nobody is left to print anything, and what goes first depends on who is told first.
    supervisor = Kind('kill:supervisor', 'state', kill_supervisor, GRAPH,
                      reasons=('shutdown', 'cancelled', 'node_lost', 'stale_\\w+', '\\w+_lost', 'policy_late'))
    return [*map(kill, NODES), kill(f'camera_{CAMERAS[0]}'), supervisor, *map(interrupt, (signal.SIGINT, signal.SIGTERM))]


_LONG = {   # node: (s, what then ends the episode); longer than its limit
    'world': (0.5, ('stale_sensor',)),
    'arm': (0.5, ('stale_sensor:(joints|tcp_pose|tcp_twist)',)),
    'gripper': (0.6, ('stale_sensor:gripper',)),
    'wrench': (0.5, ('stale_sensor:wrench',)),
    'tracker': (0.7, ('stale_sensor:objects',)),
    'controller': (0.5, ('stale_command',)),
    'safety': (1.6, ('safety_lost',)),
    'episode': (0.6, ('stale_command', 'stale_sensor', 'policy_late')),   # it measures the policy by its own clock
    'policy': (0.4, ('policy_late',)),
    'recorder': (1.6, ('recorder_lost',)),
}
_UNNOTICED = {'reset': 1.0, 'collect': 1.0}     # nobody needs them while an episode runs
_SHORT_S = 0.025                                # within every limit, but near that of the policy
_SILENT = {'world': ('joint_states', 'wrench'), 'arm': ('joint_states',), 'wrench': ('wrench',)}


def _paused() -> list[Kind]:
    def pause(node: str, seconds: float, **fields) -> Kind:
        name = 'pause' if seconds > 0.1 else 'hiccup'
        profile = 'pixels' if node.startswith('camera') else 'state'
        return Kind(f'{name}:{node}', profile, lambda cell, rng: cell.pause(node, seconds), **fields)

    long = [pause(node, s, reasons=reasons, blind=_SILENT.get(node, ()), resumes=node == 'world',
                  recorder_late=node == 'recorder')
            for node, (s, reasons) in _LONG.items()]
    camera = f'camera_{CAMERAS[1]}'
    long.append(pause(camera, 0.8, reasons=(f'stale_sensor:{CAMERAS[1]}',)))
    unnoticed = [pause(node, s, ends=NOTHING) for node, s in _UNNOTICED.items()]
    short = [pause(node, _SHORT_S, ends=EITHER, reasons=_LONG[node][1])
             for node in ('world', 'arm', 'wrench', 'controller', 'safety', 'episode', 'policy', 'recorder')]
    return long + unnoticed + short


# ---- topics -------------------------------------------------------------------------------------

def _topics() -> list[Kind]:
    def relay(topic: str, mode: str, seconds: float, *reasons: str, amount: float = 1.0, **fields) -> Kind:
        def inject(cell: Cell, rng: Random) -> int:
            return cell.relay.spoil(topic, mode, amount, seconds, rng.randrange(2**31))

        return Kind(f'{mode}:{topic}', 'state', inject, reasons=reasons, **fields)

    stopped = r"\[arm\].*no command for 100 ms: stopped"
    return [
        relay('tick', 'drop', 0.5, 'policy_late'),
        relay('tick', 'delay', 0.5, 'policy_late', amount=0.15),
        relay('action', 'drop', 0.5, 'policy_late'),
        relay('action', 'delay', 0.5, 'policy_late', amount=0.15),
        relay('action', 'nan', 0.3, 'policy_invalid'),
        relay('command', 'drop', 0.5, 'stale_command'),
        relay('command', 'delay', 0.5, 'stale_command', amount=0.3),
        relay('joint_velocity_desired', 'drop', 0.5, 'stale_command'),
        relay('joint_velocity_desired', 'delay', 0.5, 'stale_command', amount=0.3),
        relay('joint_velocity_desired', 'nan', 0.3, 'limit_violated'),
        # The driver stops the arm by itself; what goes on above it is not wrong, and it obeys again.
        relay('arm/velocity_command', 'drop', 0.4, 'stale_command', ends=EITHER, line=stopped, latched=False),
        relay('arm/velocity_command', 'delay', 0.4, 'stale_command', ends=EITHER, line=stopped, amount=0.3, latched=False),
        relay('safety/state', 'drop', 1.6, 'safety_lost'),
        relay('recorder/state', 'drop', 1.6, 'recorder_lost'),
        relay('policy/state', 'drop', 0.5, ends=NOTHING),
    ]


# ---- the operator -------------------------------------------------------------------------------

def _operator() -> list[Kind]:
    def stop(cell: Cell, rng: Random) -> int:
        now = cell.relay.call('safety/stop')
        assert now, 'safety/stop was refused'
        return now

    def rearm(cell: Cell) -> None:
        """A stop cannot be cleared at once."""
        end = time.monotonic() + 10.0
        while not cell.relay.call('safety/rearm'):
            assert time.monotonic() < end, 'safety/rearm was refused'
            time.sleep(0.1)

    return [Kind('operator stop', 'state', stop, reasons=('operator_stop',), undo=rearm)]


# ---- sensors ------------------------------------------------------------------------------------

_STREAMS = {'joints': ('joints',), 'tcp': ('tcp_pose', 'tcp_twist'), 'gripper': ('gripper',), 'wrench': ('wrench',),
            'objects': ('objects',)}
_TOPIC = {'joints': ('joint_states',), 'wrench': ('wrench',)}


def _sensors() -> list[Kind]:
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
        *(device('absurd', s, of('bad_sensor', s), *seen_by_gate.get(s, ()), amount=1e6, duration_s=0.3) for s in every),
        *(device('freeze', s, of('stale_sensor', s), duration_s=1.5) for s in every),
        *(device('delay', s, of('stale_sensor', s), amount=0.4, duration_s=0.8) for s in every),
        device('drop', 'wrench', ends=NOTHING, amount=0.5, duration_s=0.5),
        Kind('spike:wrench', 'state', spike, reasons=('force_limit',)),
        *(device('clock_jump', s, *jump, name=f'clock_jump:{s or "all"}:{by:+g}s', amount=by, duration_s=0.6,
                 blind=('joint_states', 'wrench'))
          for s, by in (('', 5.0), ('', -5.0), ('wrench', 5.0), ('joints', -5.0), ('objects', 5.0))),
    ]


def _cameras() -> list[Kind]:
    def one(kind: str, camera: str, *reasons: str, **fields) -> Kind:
        def inject(cell: Cell, rng: Random) -> int:
            return cell.device_fault(kind, stream='render', client=f'camera_{camera}', **fields)

        return Kind(f'{kind}:one camera', 'pixels', inject, reasons=tuple(f'{r}:{camera}' for r in reasons))

    left, right, back = CAMERAS
    return [
        one('freeze', left, 'stale_sensor', duration_s=1.5),
        one('silence', right, 'stale_sensor', duration_s=0.8),
        one('delay', back, 'stale_sensor', amount=0.5, duration_s=0.9),
        one('clock_jump', left, 'clock_jump', 'stale_sensor', amount=5.0, duration_s=0.6),
    ]


# ---- disk ---------------------------------------------------------------------------------------

def _disk() -> list[Kind]:
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
        cell.problems = offline.recovered(copy, now)
        shutil.rmtree(copy)
        return now

    return [
        Kind('full disk', 'state', full, reasons=('recorder_lost',), small_disk=True, sealed=False,
             undo=lambda cell: cell.resize_disk(None)),
        Kind('two recorders', 'state', two_recorders, ends=NOTHING, waits=True),
        Kind('power cut', 'state', power_cut, ends=NOTHING, waits=True),
    ]


# ---- learner ------------------------------------------------------------------------------------

def _learner() -> list[Kind]:
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
            cell.damaged = offline.damaged_version(cell.run / 'policies', how, rng)
            cell.all_damaged.add(cell.damaged)
            return time.time_ns()

        return Kind(f'policy file:{how}', 'learner', inject, ends=NOTHING, waits=True, check=offline.kept_the_old_policy)

    base = Kind('kill:learner', 'learner', lambda cell, rng: cell.kill('learner'), ends=NOTHING, waits=True,
                line=r"node 'learner' was ended by SIGKILL; restart")
    return [
        base,
        replace(base, name='kill:learner publishing', inject=kill_publishing, check=offline.only_whole_versions),
        Kind('pause:learner', 'learner', lambda cell, rng: cell.pause('learner', 1.0), ends=NOTHING),
        *(damage(how) for how in ('truncated', 'bit flipped', 'no description')),
    ]


KINDS = {kind.name: kind for kind in _kinds()}
