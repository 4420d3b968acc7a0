# SPDX-License-Identifier: Apache-2.0
"""Waiting until another node answers, which is more than being seen.

A client may see a server before the server sees the client: the first answer is then lost, and an action
whose acceptance is lost would run without anybody knowing. Discovery tells a node's endpoints in the order
of their creation, so an answer to a client made last proves that all before it are known too.
"""

from __future__ import annotations

import time

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node


class Handshake:
    """Asks nodes for a parameter, again and again, until each has answered. Create it last; call `poll`."""

    RETRY_S = 0.5

    def __init__(self, node: Node, peers: tuple[str, ...]):
        self._clients = {p: node.create_client(GetParameters, f'{p}/get_parameters') for p in peers}
        self._asked = 0.0
        self.waiting = set(peers)      # those that have not answered yet

    def poll(self) -> None:
        """Asks again those that have not answered; call it some ten times a second."""
        if not self.waiting or time.monotonic() - self._asked < self.RETRY_S:
            return
        self._asked = time.monotonic()
        for peer in self.waiting:
            client = self._clients[peer]
            if client.service_is_ready():
                future = client.call_async(GetParameters.Request(names=['use_sim_time']))
                future.add_done_callback(lambda _, peer=peer: self.waiting.discard(peer))
