# SPDX-License-Identifier: Apache-2.0
"""Brings the nodes of a cell up and down through their lifecycles. No ROS.

Up: all are configured as they appear, then activated one after another. Down: deactivated in reverse order.
An answer may be lost while two processes discover each other, or late, so a question is repeated, and before a
transition is asked for again the node is asked for its state. A node that was asked twice refuses the second time, being
there already: so a refusal counts only if the node then says that it is where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

GET_STATE, CONFIGURE, ACTIVATE, DEACTIVATE = 'get_state', 'configure', 'activate', 'deactivate'
UNCONFIGURED, INACTIVE, ACTIVE = 'unconfigured', 'inactive', 'active'
# transition: the state that it starts from, states in which it is not needed
_TRANSITIONS = {CONFIGURE: (UNCONFIGURED, (INACTIVE, ACTIVE)), ACTIVATE: (INACTIVE, (ACTIVE,)),
                DEACTIVATE: (ACTIVE, (INACTIVE, UNCONFIGURED, 'finalized'))}


class Phase(Enum):
    CONFIGURING = 0
    ACTIVATING = 1
    UP = 2
    DEACTIVATING = 3
    DOWN = 4
    FAILED = 5      # going up; see `error`


class CellLifecycle:
    """Call `poll` some ten times a second or more, and hand in every answer.

    Args:
      nodes: in the order in which they are activated.
      ask: called with (node, GET_STATE or a transition); returns whether the node is there to be asked. The
        answer comes later through `on_state` or `on_changed`, or never.
      configure_s, activate_s, deactivate_s: deadlines: of all nodes together from `start`, and of each node.
    """

    RETRY_S = 1.0

    def __init__(self, nodes: tuple[str, ...], ask: Callable[[str, str], bool], configure_s: float = 60.0,
                 activate_s: float = 5.0, deactivate_s: float = 0.5):
        self._nodes, self._ask = nodes, ask
        self._limits = {CONFIGURE: configure_s, ACTIVATE: activate_s, DEACTIVATE: deactivate_s}
        self._state: dict[str, str] = {}        # as last heard; none: to be asked for
        self._asked: dict[str, float] = {}
        self._refused: set[str] = set()         # whose state is to tell whether they meant it
        self._todo: list[str] = []
        self._since = 0.0
        self._transition = CONFIGURE
        self.phase = Phase.DOWN
        self.error = ''
        self.late: list[str] = []               # that were not seen to deactivate

    def start(self, now_s: float) -> None:
        """Begins to go up; now_s: of a monotonic clock, here and below."""
        self._enter(Phase.CONFIGURING, CONFIGURE, list(self._nodes), now_s)

    def finish(self, now_s: float) -> None:
        """Begins to go down, from wherever it is."""
        self.late = []
        asked = set(self._asked) if self.phase is Phase.ACTIVATING else set()
        for node in asked:
            self._state.pop(node, None)     # it may have become active, and its answer be on the way
        todo = [n for n in reversed(self._nodes) if n in asked or self._state.get(n) == ACTIVE]
        self._enter(Phase.DEACTIVATING, DEACTIVATE, todo, now_s)

    def _enter(self, phase: Phase, transition: str, todo: list[str], now_s: float) -> None:
        self.phase, self._transition, self._todo, self._since = phase, transition, todo, now_s
        self._asked, self._refused = {}, set()

    def on_state(self, node: str, state: str) -> None:
        """The node's state, as it says."""
        self._state[node] = state
        self._asked.pop(node, None)
        if node in self._refused:
            self._refused.discard(node)
            if state == _TRANSITIONS[self._transition][0]:
                self._fail(f'{node} refused to {self._transition}, see its log')

    def on_changed(self, node: str, transition: str, success: bool) -> None:
        """The node's answer to a transition."""
        if transition != self._transition or node not in self._todo:
            return      # of long ago
        if success:
            self.on_state(node, _TRANSITIONS[transition][1][0])
        elif self.phase is Phase.DEACTIVATING:
            self.late.append(node)
            self._todo.remove(node)
        else:
            self._refused.add(node)
            self._state.pop(node, None)
            self._asked.pop(node, None)

    def poll(self, now_s: float) -> None:
        """Asks what is to be asked now, and gives up on what is too late."""
        while self._todo and self._advance(now_s):
            pass
        if self._todo or self.phase is Phase.FAILED:
            return
        if self.phase is Phase.CONFIGURING:
            self._enter(Phase.ACTIVATING, ACTIVATE, list(self._nodes), now_s)
            self.poll(now_s)
        elif self.phase is Phase.ACTIVATING:
            self.phase = Phase.UP
        elif self.phase is Phase.DEACTIVATING:
            self.phase = Phase.DOWN

    def _advance(self, now_s: float) -> bool:
        """One look at those whose turn it is; True if a node is done, so that it is the next one's turn."""
        source, unneeded = _TRANSITIONS[self._transition]
        together = self.phase is Phase.CONFIGURING
        for node in list(self._todo) if together else self._todo[:1]:
            if self._state.get(node) in unneeded:
                self._todo.remove(node)
                if not together:
                    self._since = now_s
                return True
            if now_s - self._asked.get(node, -self.RETRY_S) >= self.RETRY_S:
                if node in self._asked:
                    self._state.pop(node, None)     # no answer: what it is in is not known
                what = self._transition if self._state.get(node) == source else GET_STATE
                if self._ask(node, what):
                    self._asked[node] = now_s
        if now_s - self._since <= self._limits[self._transition]:
            return False
        if self.phase is Phase.DEACTIVATING:
            self.late.append(self._todo.pop(0))
            self._since = now_s
            return True
        self._fail(f'{", ".join(self._todo)} did not {self._transition} within {now_s - self._since:.0f} s')
        return False

    def _fail(self, error: str) -> None:
        self.phase, self.error, self._todo = Phase.FAILED, error, []
