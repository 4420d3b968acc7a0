# SPDX-License-Identifier: Apache-2.0
"""`./chef view`: an episode in Rerun, or as a file for it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from chef_task.bag import BagError, Episode, find_episodes
from chef_task.bag.either import left_out

from chef_bringup.graph import ArgumentError
from chef_bringup.view_robot import find_urdf


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, as all else here does."""

    def error(self, message: str):
        print(f"chef view: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="./chef view",
        description="Shows an episode in Rerun: the cameras, the robot and the objects, the wrist force, the rewards. "
        "For rviz and a live cell see ./chef launch view.launch.py --show-args.",
    )
    parser.add_argument("episode", metavar="EPISODE", help="a bag, or a run for its newest episode")
    parser.add_argument("--save", metavar="FILE.rrd", type=Path, help="write a file for `rerun FILE.rrd` and stop")
    urdf = "the robot's description (default: the simulated cell's)"
    parser.add_argument("--urdf", metavar="FILE", default="", help=urdf)
    return parser


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit status (2: it was asked for wrongly, or nothing can show it)."""
    try:
        options = _parser().parse_args(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    try:
        return _view(options)
    except (BagError, ArgumentError) as error:
        print(f"chef view: {error}", file=sys.stderr)
        return 2


def _view(options: argparse.Namespace) -> int:
    # what can be said at once, before anything takes time
    if options.save is None:
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ArgumentError("there is no display here; use --save FILE.rrd and open it with `rerun` elsewhere")
    elif not options.save.absolute().parent.is_dir():
        raise ArgumentError(f"--save: there is no folder {str(options.save.absolute().parent)!r}")
    episode = Episode.open(newest(options.episode))
    urdf = find_urdf(options.urdf)
    try:
        import rerun as rr

        from chef_bringup import view_rerun
    except ImportError as error:
        raise ArgumentError(f"Rerun is not installed ({error}): pip install rerun-sdk") from None
    if urdf is None:
        print("chef view: no description of the robot was found, the scene is shown without it", file=sys.stderr)
    recording = rr.RecordingStream("chef", recording_id=episode.record.episode_id)
    layout = view_rerun.blueprint(episode)
    try:
        if options.save is not None:
            recording.save(options.save, default_blueprint=layout)
        else:
            recording.spawn(default_blueprint=layout)
    except (OSError, RuntimeError) as error:
        what = f"{options.save} cannot be written" if options.save else "the viewer does not start, use --save FILE.rrd"
        raise ArgumentError(f"{what}: {' '.join(str(error).split())}") from None
    view_rerun.log_episode(recording, episode, urdf)
    recording.flush()
    recording.disconnect()
    if options.save is not None:
        print(f"{options.save}: {options.save.stat().st_size / 1e6:.1f} MB; open it with: rerun {options.save}")
    return 0


def newest(path: str) -> Path:
    """The bag at `path`, or the newest episode of the run there; raises BagError."""
    place = Path(path)
    if place.is_dir() and not (place / "metadata.yaml").is_file():
        episodes = find_episodes(place)
        if episodes:
            return episodes[-1]
        if not any(place.glob("*.mcap")):
            raise BagError(f"{place}: has no episodes" + (f" in bags: {note}" if (note := left_out(place)) else ""))
    return place
