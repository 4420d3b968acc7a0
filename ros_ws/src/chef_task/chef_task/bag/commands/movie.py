# SPDX-License-Identifier: Apache-2.0
"""`./chef bags movie`: one episode as a movie."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import output_file
from chef_task.bag.either import open_either

HELP = 'one episode as a movie (MP4)'
DESCRIPTION = ('Writes an MP4 that browsers play, in real time: the cameras side by side, the rewards of all tasks '
               'with the task that acted, and the wrist force with its limit.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('episode', metavar='EPISODE', type=Path, help='a bag, or a file of a simulated episode')
    parser.add_argument('--output', metavar='MP4', type=Path,
                        help='file of the movie (default: <episode id>.mp4 in the current folder)')


def run(args: Namespace) -> int:
    output_file(args.output)
    episode = open_either(args.episode)
    output = output_file(args.output, episode.record.episode_id, '.mp4')
    from chef_task.bag.movie import save_movie      # matplotlib takes a second to import

    steps = save_movie(episode, output)
    print(f'movie of {steps} steps written to {output}, {output.stat().st_size / 1e6:.1f} MB')
    return 0
