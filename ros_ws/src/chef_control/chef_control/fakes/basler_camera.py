# SPDX-License-Identifier: Apache-2.0
"""A Basler camera without the hardware: pylon's own emulation, which shows pictures of a simulated world.

The emulation lives in the driver's process (PYLON_CAMEMU) and reads its pictures from files; this process writes them.
"""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from chef_control.fakes.plan import Context, Fake
from chef_control.fakes.world_pictures import play

# The emulation reads the files of a folder in turn; of a single file it keeps what it read first.
_FILES = ('a.bmp', 'b.bmp')      # neither end has to compress anything


def show(folder: Path, image: np.ndarray | None) -> None:
    """Makes an emulated camera with that folder show a picture [H, W, 3] RGB from now on; None: what is no picture."""
    if image is None:
        data = os.urandom(4000)
    else:
        good, data = cv2.imencode('.bmp', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        assert good
    for name in _FILES:
        part = folder.parent / f'{folder.name}.{name}'     # beside it: the emulation would read it half-written
        part.write_bytes(data)
        os.replace(part, folder / name)


def fake(entry: dict, context: Context) -> Fake:
    """An emulated camera in the driver's process, and a process that renders what it sees."""
    folder = context.folder / context.name
    folder.mkdir(exist_ok=True)
    show(folder, np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8))    # until the first one is rendered
    # As many as the cell has, and of them always the same one, so that one process may open all. It shares the processor
    # with the whole cell, and has the size of what the world's cameras see.
    others = list(context.cell.devices['cameras'])
    device = {**{k: v for k, v in entry.items() if k not in ('crop', 'exposure_us', 'gain', 'pixel_format')},
              'serial': f'0815-{others.index(context.name):04d}', 'width': 128, 'height': 128, 'timeout_s': 5.0,
              'emulation_folder': str(folder)}
    words = (__name__, '--folder', str(folder), '--world', context.world_socket, '--camera', context.name)
    return Fake(device, words, {'PYLON_CAMEMU': str(len(others))})


def main(argv: list[str] | None = None) -> None:
    """Renders what an emulated camera sees until it is interrupted or its world ends."""
    parser = argparse.ArgumentParser(prog='python -m chef_control.fakes.basler_camera', description=main.__doc__)
    parser.add_argument('--folder', required=True, type=Path, help='emulation_folder of the camera')
    play(parser, argv, 'an emulated camera', lambda args: nullcontext(partial(show, args.folder)))


if __name__ == '__main__':
    main()
