# SPDX-License-Identifier: Apache-2.0
"""`./chef bags show`: one episode in figures and as a picture."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from chef_task.bag.commands.text import output_file, printable, time_text
from chef_task.bag.either import open_either
from chef_task.bag.errors import BagError

HELP = 'one episode in figures, and a picture of it'
DESCRIPTION = ('Prints one episode and draws the cameras over time, the rewards of all tasks with the task that '
               'acted, and the wrist force with its limit.')


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument('episode', metavar='EPISODE', type=Path, help='a bag, or a file of a simulated episode')
    parser.add_argument('--output', metavar='PNG', type=Path,
                        help='file of the picture (default: <episode id>.png in the current folder)')


def run(args: Namespace) -> int:
    output_file(args.output)
    episode = open_either(args.episode)
    r = episode.record
    when = time_text(r)
    rows = [('episode', r.episode_id), ('time', when if when == '-' else f'{when} UTC'), ('cell', r.cell),
            ('triplet', f'{r.triplet}, seed {r.seed}'), ('policy', r.policy_version or '-'),
            ('steps', f'{r.steps} in {(r.end_ns - r.start_ns) / 1e9:.1f} s, {episode.observation}'),
            ('ended by', r.termination_reason), ('success', 'yes' if r.success else 'no'),
            ('peak force', f'{r.peak_force_n:.1f} N'), ('images', episode.image_codec),
            ('tasks', ', '.join(f'{task} from step {index}' for index, task in episode.schedule()) or '-')]
    rows += [(f'return {task}', f'{value:.2f}') for task, value in zip(r.tasks, r.returns)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f'{printable(name):{width}}  {printable(value)}')
    for topic, (msgtype, count) in sorted(episode.topics().items()):
        print(f'{count:8d}  {printable(topic)}  {printable(msgtype)}')
    output = output_file(args.output, r.episode_id, '.png')
    from chef_task.bag.plots import save_filmstrip      # matplotlib takes a second to import

    try:
        save_filmstrip(episode, output)
    except OSError as e:
        raise BagError(f'{output}: cannot be written: {e.strerror or e}') from e
    print(f'picture written to {output}')
    return 0
