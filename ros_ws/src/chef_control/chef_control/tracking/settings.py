# SPDX-License-Identifier: Apache-2.0
"""What the tracker can be told: colours, sizes in the picture, and when a pose is too old to be believed."""

from __future__ import annotations

from dataclasses import dataclass

from chef_task.settings import option


@dataclass(frozen=True)
class Colour:
    """What counts as one colour, in HSV."""

    hue_deg: tuple[float, ...] = option((0.0, 360.0), 'lowest and highest hue, degrees; 340, 20 passes through 0',
                                        low=0.0, high=360.0)
    saturation_least: float = option(0.5, 'least saturation, 0 grey .. 1', low=0.0, high=1.0)
    value_least: float = option(0.15, 'least value, 0 black .. 1', low=0.0, high=1.0)

    def __post_init__(self):
        if len(self.hue_deg) != 2:
            raise ValueError(f'hue_deg must be two hues, lowest and highest, not {len(self.hue_deg)}')


@dataclass(frozen=True)
class TrackerSettings:
    """Of `chef_control.tracking.tracker.Tracker`."""

    red: Colour = option(Colour((335.0, 25.0)), 'what counts as red')
    green: Colour = option(Colour((85.0, 160.0)), 'what counts as green')
    blue: Colour = option(Colour((200.0, 265.0)), 'what counts as blue')
    width_px: int = option(640, 'wider pictures are scaled down to this width before anything else', low=64)
    area_share: float = option(1.3e-4, 'smaller spots of a colour are no objects, share of the picture', low=0.0, below=1.0)
    border_share: float = option(0.005, 'how near another colour or the edge of the picture may hide an outline, share of '
                                        'its width', low=0.0, below=0.1)
    views_least: int = option(2, 'an object seen by fewer cameras keeps its last pose', low=2)
    beyond_most: float = option(0.2, 'share of an outline that may reach beyond the shape, else its view is dropped', low=0.0,
                                high=1.0)
    agreement_least: float = option(0.3, 'share of what is not hidden that must fit the shape, else it is none', low=0.0,
                                    high=1.0)
    noise_px: float = option(1.0, 'standard deviation expected of an outline, pixels; scales the reported sigma',
                             above=0.0)
    age_s: float = option(2.0, 'an object unseen for longer stops the stream of poses', above=0.0)
