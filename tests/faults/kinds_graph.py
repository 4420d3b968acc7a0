# SPDX-License-Identifier: Apache-2.0
"""Faults of the graph: processes that die or stand still, messages that are lost, late or spoilt, an operator."""

from __future__ import annotations

import signal
import time
from random import Random

import offline
from cell import CAMERAS, NODES, Cell
from kind import EITHER, GRAPH, NOTHING, Kind

# ---- processes ----------------------------------------------------------------------------------

# Death is told to the gate at once, but whoever misses the dead node's messages may be faster.
_ON_DEATH = {
    'world': ('stale_sensor',), 'arm': ('stale_sensor',), 'gripper': ('stale_sensor',), 'wrench': ('stale_sensor',),
    'tracker': ('stale_sensor',), 'controller': ('stale_command',),
    'safety': ('safety_lost', 'stale_sensor', 'shutdown'), 'episode': ('episode_node_lost', 'shutdown'),
    'policy': ('policy_late',), 'recorder': ('recorder_lost',),
    **{f'camera_{c}': ('stale_sensor',) for c in CAMERAS},
}


def killed() -> list[Kind]:
    def kill(node: str) -> Kind:
        return Kind(
            f'kill:{node}', 'pixels' if node.startswith('camera') else 'state', lambda cell, rng: cell.kill(node),
            GRAPH, reasons=('node_lost', *_ON_DEATH.get(node, ())), line=f"required node '{node}' was ended by SIGKILL",
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
    return [*map(kill, NODES), kill(f'camera_{CAMERAS[0]}'), supervisor,
            *map(interrupt, (signal.SIGINT, signal.SIGTERM))]


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
_UNNOTICED = {node: 1.0 for node in ('reset', 'collect', 'manager') if node in NODES}   # in an episode
_SHORT_S = 0.025                                # within every limit, but near that of the policy
_SILENT = {'world': ('joint_states', 'wrench'), 'arm': ('joint_states',), 'wrench': ('wrench',)}


def paused() -> list[Kind]:
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

def topics() -> list[Kind]:
    def relay(topic: str, mode: str, seconds: float, *reasons: str, amount: float = 1.0, **fields) -> Kind:
        def inject(cell: Cell, rng: Random) -> int:
            return cell.relay.spoil(topic, mode, amount, seconds, rng.randrange(2**31))

        return Kind(f'{mode}:{topic}', 'state', inject, reasons=reasons, **fields)

    stopped = r"\[{}\].*no command for 100 ms: stopped".format
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
        # The driver stops by itself, and the gate latches the stop once it is told.
        relay('arm/velocity_command', 'drop', 0.4, 'stale_command', line=stopped('arm')),
        relay('arm/velocity_command', 'delay', 0.4, 'stale_command', line=stopped('arm'), amount=0.3),
        relay('gripper/velocity_command', 'drop', 0.4, 'stale_command', line=stopped('gripper')),
        relay('safety/state', 'drop', 1.6, 'safety_lost'),
        relay('recorder/state', 'drop', 1.6, 'recorder_lost'),
        relay('policy/state', 'drop', 0.5, ends=NOTHING),
    ]


# ---- the operator -------------------------------------------------------------------------------

def operator() -> list[Kind]:
    def stop(cell: Cell, rng: Random) -> int:
        now = cell.relay.call('safety/stop')
        assert now, 'safety/stop was refused'
        return now

    def clear(cell: Cell) -> None:
        """A stop cannot be cleared at once."""
        end = time.monotonic() + 10.0
        while not cell.relay.call('safety/clear'):
            assert time.monotonic() < end, 'safety/clear was refused'
            time.sleep(0.1)

    return [Kind('operator stop', 'state', stop, reasons=('operator_stop',), undo=clear)]
