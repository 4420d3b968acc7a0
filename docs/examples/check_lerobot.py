# SPDX-License-Identifier: Apache-2.0
"""Reads an exported dataset with LeRobot's own loader and compares every value with the bags.

Runs in an environment of its own that has lerobot; docs/lerobot.md has the commands. Exit status 1 and one
line for the first value that differs.

    python docs/examples/check_lerobot.py DIR OUT [--labels VERSION]
"""

import argparse
import sys

import lerobot
import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from chef_task.bag import Episode, find_episodes
from chef_task.bag.labels import Labels
from chef_task.bag.lerobot import SENTENCES
from chef_task.bag.lerobot_rows import OBJECTS, STATE, objects_key
from chef_task.observation import features
from chef_task.rewards import MAIN_TASK, TASKS


def expect(what, there, here):
    if not np.array_equal(np.asarray(there), np.asarray(here)):
        sys.exit(f'{what}: LeRobot reads {np.asarray(there).ravel()[:4]}, the bag has {np.asarray(here).ravel()[:4]}')


def check_episode(dataset, frame, episode, labels):
    """Compares the rows from `frame` on with a bag; returns the number of the next row."""
    rewards = labels.read(episode) if labels else np.stack([s.rewards for s in episode.steps()])
    tasks = labels.tasks if labels else TASKS
    pixels = any(k.startswith('observation.images') for k in dataset.features)
    steps = list(episode.iterate())
    for k, (step, samples) in enumerate(steps[:-1]):
        row, where = dataset[frame], f'{episode.record.episode_id} step {k} '
        seen = features(samples, step.last_action)
        expect(where + 'state', row['observation.state'], np.concatenate([seen[key] for key in STATE]))
        expect(where + 'objects', row[objects_key('pixels' if pixels else 'state')],
               np.concatenate([seen[key] for key in OBJECTS]))
        for key in dataset.meta.camera_keys:
            image = (row[key].permute(1, 2, 0) * 255).round().to(torch.uint8)      # LeRobot: [C, H, W] in [0, 1]
            expect(where + key, image, seen['image_' + key.rsplit('.', 1)[1]])
        expect(where + 'action', row['action'], step.action)
        expect(where + 'next.rewards', row['next.rewards'], rewards[k + 1])
        expect(where + 'next.reward', row['next.reward'], rewards[k + 1, tasks.index(MAIN_TASK)])
        last = k == len(steps) - 2
        expect(where + 'next.done', row['next.done'], last)
        expect(where + 'next.truncated', row['next.truncated'], last and steps[-1][0].discount > 0)
        expect(where + 'stamp_ns', row['stamp_ns'], step.stamp)
        names = dataset.features['stream_stamps_ns']['names']
        expect(where + 'stream_stamps_ns', row['stream_stamps_ns'], [step.stamps[n] for n in names])
        expect(where + 'timestamp', row['timestamp'], np.float32(k / dataset.fps))
        expect(where + 'task', row['task'] == SENTENCES[episode.record.tasks[step.task]], True)
        frame += 1
    return frame


def check_stats(dataset):
    """Compares LeRobot's view of the statistics with those of the rows it reads."""
    for key, stats in dataset.meta.stats.items():
        if key in dataset.meta.camera_keys or key.endswith('stamp_ns') or key.endswith('stamps_ns'):
            continue
        values = np.stack([np.atleast_1d(v).astype(float) for v in dataset.hf_dataset[key]])
        for name, value in (('mean', values.mean(0)), ('std', values.std(0)), ('max', values.max(0))):
            if not np.allclose(stats[name], value, rtol=1e-5, atol=1e-6):
                sys.exit(f'stats of {key}: {name} is {stats[name]}, the rows have {value}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bags', metavar='DIR')
    parser.add_argument('out', metavar='OUT')
    parser.add_argument('--labels', metavar='VERSION')
    args = parser.parse_args()
    labels = Labels.find(args.labels, args.bags) if args.labels else None
    dataset = LeRobotDataset('chef/export', root=args.out)
    frame = 0
    for number, path in enumerate(find_episodes(args.bags)):
        episode = Episode.open(path)
        expect('episode', dataset.meta.episodes[number]['chef/episode_id'] == episode.record.episode_id, True)
        frame = check_episode(dataset, frame, episode, labels)
    expect('rows', len(dataset), frame)
    check_stats(dataset)
    # windows and batches, as a training asks for them
    past = {'observation.state': [-0.1, -0.05, 0.0], 'action': [i / dataset.fps for i in range(8)]}
    windows = LeRobotDataset('chef/export', root=args.out, delta_timestamps=past)
    batch = next(iter(torch.utils.data.DataLoader(windows, batch_size=8, shuffle=True)))
    expect('window', batch['observation.state'].shape[:2], (8, 3))
    expect('window', batch['action'].shape, (8, 8, 5))
    last = LeRobotDataset('chef/export', root=args.out, episodes=[dataset.num_episodes - 1])
    expect('last episode', last[0]['episode_index'], dataset.num_episodes - 1)
    print(f'lerobot {lerobot.__version__}, torch {torch.__version__}: {dataset.num_episodes} episodes, {frame} rows, '
          f'{len(dataset.features)} features, {len(dataset.meta.camera_keys)} cameras: all as in the bags')


if __name__ == '__main__':
    main()
