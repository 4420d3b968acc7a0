# SPDX-License-Identifier: Apache-2.0
"""The kinds of faults: how each is injected and what must come of it.

`reasons` are those that an episode's record may give for it, as regular expressions; where two layers see the same
fault, the one that is first gives its own. An injection returns the time of the fault, ns of the wall clock.
"""

from __future__ import annotations

import kinds_cell as of_cell
import kinds_graph as of_graph
import kinds_real as of_real
from kind import Kind


def _kinds() -> list[Kind]:
    return [*of_graph.killed(), *of_graph.paused(), *of_graph.topics(), *of_graph.operator(),
            *of_cell.sensors(), *of_cell.cameras(), *of_cell.disk(), *of_cell.learner(), *of_real.real()]


KINDS = {kind.name: kind for kind in _kinds()}
