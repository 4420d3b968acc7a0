# SPDX-License-Identifier: Apache-2.0
"""Image codecs of bags: size, processor time and what becomes of the pixels.

    ./chef bench codec [--steps 60] [--repeats 3] [--size 128x128] [--episode BAG]

The pictures are those of the simulated cell's three cameras while its arm moves at random, as they are and
with the noise of a small camera (shot noise and read noise, some 2 counts in the middle of the range).
`--episode` measures on a recorded episode's pictures instead, which should be one kept without loss.
Processor time is that of the whole path in the recorder and in the reader, messages included.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from chef_task.bag.codec import COMPRESSED, IMAGE, Codec, ImageEncoder, as_image
from chef_task.bag.definitions import typestore
from chef_task.bag.reader import Episode
from chef_task.spaces import CAMERAS, CONTROL_HZ, CONTROL_PERIOD_NS

CODECS = ('raw', 'png', 'jpeg:100', 'jpeg:98', 'jpeg:95', 'jpeg:90')


def rendered(steps: int, width: int, height: int) -> np.ndarray:
    """uint8 [steps, cameras, H, W, 3]: triplets in turn, the arm and the gripper moving at random."""
    from chef_sim.render import Renderer
    from chef_sim.world import World

    rng, frames = np.random.default_rng(0), []
    for triplet in range(1, 6):
        world = World(triplet, 'fast', seed=triplet)
        world.place(triplet)
        with Renderer(triplet, width, height) as renderer:
            for i in range(-(-steps // 5)):
                if i % 10 == 0:
                    velocity, grip = rng.uniform(-0.4, 0.4, 7), rng.choice([-1.0, 1.0])
                world.command_arm(velocity, world.stamp_ns)
                world.command_gripper(grip, world.stamp_ns)
                world.advance(CONTROL_PERIOD_NS)
                sample = world.sample('render')
                frames.append([renderer.render(camera, sample) for camera in CAMERAS])
    return np.array(frames[:steps])


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split('x'))
    return width, height


def recorded(path: str) -> np.ndarray:
    """uint8 [steps, cameras, H, W, 3] of an episode."""
    frames = [[samples[c]['image'] for c in CAMERAS] for _, samples in Episode.open(path).iterate(CAMERAS)]
    return np.array(frames)


def with_noise(frames: np.ndarray) -> np.ndarray:
    """The frames with Gaussian noise of variance 1 + 0.03 x value, counts squared."""
    values = frames.astype(np.float32)
    noise = np.random.default_rng(1).standard_normal(values.shape, np.float32) * np.sqrt(1.0 + 0.03 * values)
    return np.clip(np.rint(values + noise), 0, 255).astype(np.uint8)


def serialised(frames: np.ndarray) -> list[bytes]:
    """The frames as raw subscriptions would give them, one after the other."""
    store = typestore()
    t = store.types
    header = t['std_msgs/msg/Header'](t['builtin_interfaces/msg/Time'](1, 0), f'{CAMERAS[0]}_optical')
    height, width = frames.shape[2:4]
    return [bytes(store.serialize_cdr(t[IMAGE](header, height, width, 'rgb8', 0, 3 * width, image.reshape(-1)), IMAGE))
            for image in frames.reshape(-1, height, width, 3)]


def measure(name: str, frames: np.ndarray, messages: list[bytes], repeats: int) -> str:
    """One row: the least processor time of the repeats, everything else is the same in all."""
    codec, store = Codec.parse(name), typestore()
    write = (lambda *m: m) if codec.kind == 'raw' else ImageEncoder(codec)
    msgtype = IMAGE if codec.kind == 'raw' else COMPRESSED
    encode_s = decode_s = float('inf')
    for _ in range(repeats):
        start = time.process_time()
        stored = [write('/camera/image', IMAGE, data)[2] for data in messages]
        encode_s = min(encode_s, time.process_time() - start)
        start = time.process_time()
        images = [store.deserialize_cdr(data, msgtype) for data in stored]
        images = [(m if codec.kind == 'raw' else as_image(m)).data for m in images]
        decode_s = min(decode_s, time.process_time() - start)
    steps = len(frames)
    error = np.abs(np.concatenate(images).astype(np.int16) - frames.reshape(-1))
    mse = float(np.mean(error.astype(np.float64) ** 2))
    psnr = f'{10 * np.log10(255 ** 2 / mse):.1f}' if mse else 'exact'
    kilobytes = sum(map(len, stored)) / steps / 1e3
    cpu = 1e3 * encode_s / steps
    cells = (f'`{name}`', f'{kilobytes:.1f}', f'{kilobytes * CONTROL_HZ * 3.6e3 / 1e6:.2f}', f'{cpu:.2f}',
             f'{cpu * CONTROL_HZ / 10:.1f}', f'{1e3 * decode_s / steps:.2f}', f'{error.max()}', f'{error.mean():.2f}',
             psnr)
    return f'| {" | ".join(cells)} |'


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench codec', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=60, help='steps of three pictures (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=3, help='of which the fastest counts (default: %(default)s)')
    parser.add_argument('--size', type=_size, default='128x128', help='of rendered pictures (default: %(default)s)')
    parser.add_argument('--episode', metavar='BAG', help='measure on this episode')
    options = parser.parse_args()
    frames = recorded(options.episode) if options.episode else rendered(options.steps, *options.size)
    sets = {'recorded': frames} if options.episode else {'rendered': frames, 'with camera noise': with_noise(frames)}
    for kind, frames in sets.items():
        print(f'{kind}, {len(frames)} steps of {frames.shape[1]} pictures {frames.shape[3]} x {frames.shape[2]}:\n')
        print('| codec | kB a step | GB an hour | encode, ms a step | % of a core at 20 Hz | decode, ms a step '
              '| error max | error mean | PSNR, dB |')
        print('|---|---|---|---|---|---|---|---|---|')
        messages = serialised(frames)
        for name in CODECS:
            print(measure(name, frames, messages, options.repeats), flush=True)
        print()
    return 0


if __name__ == '__main__':
    sys.exit(main())
