# SPDX-License-Identifier: Apache-2.0
"""In place of a tracker: the true poses of a simulated world's objects, where nobody needs a tracker to be tried.

    tracker: {driver: 'chef_control.fakes.world_tracker:WorldTracker'}      # with fake_devices:=true only
"""

from __future__ import annotations

from dataclasses import dataclass

from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_control.fakes.plan import Context, Fake
from chef_sim import client
from chef_task.settings import option


@dataclass(frozen=True)
class Settings:
    """Settings of a tracker that knows."""

    world: str = option('', "the world's socket; from the fakes")


class WorldTracker:
    """Stream 'objects', as `chef_control.devices.device.Device` has it."""

    Settings = Settings
    FAKE = f'{__name__}:fake'

    def __init__(self, settings: Settings, on_batch: OnBatch, on_lost: OnLost):
        if not settings.world:
            raise ValueError('devices.tracker: WorldTracker knows simulated worlds only, with fake_devices:=true')
        try:
            self._client = client.DeviceClient(settings.world, 'fake tracker', ('objects',), on_batch, on_lost)
        except client.DeviceError as e:
            raise DeviceError(f'tracker: {e}') from None

    def close(self) -> None:
        self._client.close()


def fake(entry: dict, context: Context) -> Fake:
    """The world that all fakes have."""
    return Fake({**entry, 'world': context.world_socket})
