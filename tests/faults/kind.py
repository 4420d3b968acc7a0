# SPDX-License-Identifier: Apache-2.0
"""What a kind of fault is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cell import Cell

# what a fault ends: the graph; the episode; nothing; or, where it is close to a limit, nothing or the episode
GRAPH, EPISODE, NOTHING, EITHER = 'graph', 'episode', 'nothing', 'either'


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    name: unique. profile: the graph it is put into. ends: what it ends. line: what the graph must print, a regular
    expression. blind: topics that are silent or late because of the fault itself, so that their gaps are no loss.
    resumes: the device itself, and with it the arm, stands still, and is judged from when it goes on. sealed: the
    bag gets its final name. recorder_late: the recorder stands still, so its log times are none. waits: it is
    injected some time, not within the episode that runs. small_disk: wants a disk of its own. unseen_m: while the
    tool moves less than that in view nobody can tell that there is a fault. undo: what ends it, before the next
    episode. check: problems of its own, after the rest.
    """

    name: str
    profile: str
    inject: Callable[[Cell, Random], int]
    ends: str = EPISODE
    reasons: tuple[str, ...] = ()
    line: str = ''
    blind: tuple[str, ...] = ()
    resumes: bool = False
    sealed: bool = True
    recorder_late: bool = False
    waits: bool = False
    small_disk: bool = False
    unseen_m: float = 0.0
    undo: Callable[[Cell], None] | None = None
    check: Callable[[Cell], list[str]] | None = None
