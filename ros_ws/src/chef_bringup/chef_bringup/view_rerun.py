# SPDX-License-Identifier: Apache-2.0
"""An episode as a Rerun recording: cameras, robot, objects, force, rewards; time is the capture stamps'."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from chef_task import geometry
from chef_task.bag import Episode
from chef_task.spaces import ACTION_NAMES, CAMERAS, JOINTS

from chef_bringup import view_scene
from chef_bringup.graph import ArgumentError
from chef_bringup.view_scene import BASE_FRAME

TIMELINE = "capture"
_SERIES = ([104, 148, 200], [110, 175, 140], [205, 160, 85], [200, 115, 130], [150, 125, 205], [85, 170, 185])
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]


def blueprint(episode: Episode) -> rrb.Blueprint:
    """The first arrangement of the panels; a state episode has none for cameras."""
    scene = rrb.Spatial3DView(
        origin="/", contents=["/scene/**", "/robot/**", "/tf/**", "/tf_static/**"], name="cell",
        spatial_information=rrb.SpatialInformation(BASE_FRAME),
        eye_controls=rrb.EyeControls3D(position=(1.55, -0.85, 0.75), look_target=(0.4, 0.0, 0.3), eye_up=(0, 0, 1)),
    )  # fmt: skip
    legend = rrb.PlotLegend(corner=rrb.Corner2D.RightTop)
    plots = rrb.Horizontal(
        rrb.TimeSeriesView(origin="/rewards", name="rewards", plot_legend=legend),
        rrb.TimeSeriesView(origin="/force", name="wrist force, N", plot_legend=legend),
        rrb.TimeSeriesView(origin="/action", name="action", plot_legend=legend),
    )
    text = rrb.Tabs(*(rrb.TextDocumentView(origin=f"/{name}", name=name) for name in ("now", "episode")))
    cameras = [rrb.Spatial2DView(origin=f"/cameras/{c}", name=c) for c in CAMERAS if episode.has(c)]
    beside = rrb.Grid(*cameras, text, grid_columns=2 if cameras else 1)
    top = rrb.Horizontal(scene, beside, column_shares=[3, 2] if cameras else [4, 1])
    return rrb.Blueprint(
        rrb.Vertical(top, plots, row_shares=[5, 2]), rrb.TimePanel(timeline=TIMELINE, state="collapsed"),
        collapse_panels=True,
    )  # fmt: skip


def log_episode(rec: rr.RecordingStream, episode: Episode, urdf: Path | None) -> None:
    """Log everything that is drawn.

    Args:
        urdf: the robot's description; None draws the scene without the robot.

    Raises:
        BagError: the bag is damaged.
    """
    limits = view_scene.limits_of(episode.record.metadata)
    frames = _log_robot(rec, episode, urdf) if urdf is not None else set()
    tcp = episode.series("tcp_pose")
    _send_pose(rec, "tf/tcp_measured", tcp.stamps, tcp.values["pose"], "tcp_measured")
    _log_scene(rec, episode, limits)
    _log_force(rec, episode, limits, frames)
    _log_cameras(rec, episode)
    _log_steps(rec, episode)


def _times(stamps: np.ndarray) -> rr.TimeColumn:
    return rr.TimeColumn(TIMELINE, timestamp=np.asarray(stamps).astype("datetime64[ns]"))


def _rgba(colour) -> tuple[int, ...]:
    return tuple(round(255 * c) for c in colour)


def _frame(rec: rr.RecordingStream, path: str, frame: str) -> None:
    """Everything logged at `path` is given in `frame`."""
    rec.log(path, rr.CoordinateFrame(frame), static=True)


def _transform(pose, parent: str, child: str) -> rr.Transform3D:
    quaternion = rr.Quaternion(xyzw=np.asarray(pose)[[4, 5, 6, 3]])
    return rr.Transform3D(translation=pose[:3], quaternion=quaternion, parent_frame=parent, child_frame=child)


def _send_pose(rec: rr.RecordingStream, path: str, stamps, poses, frame: str) -> None:
    """A frame that moves in the base frame; poses: [N, 7]."""
    columns = rr.Transform3D.columns(
        translation=poses[:, :3], quaternion=poses[:, [4, 5, 6, 3]],
        parent_frame=[BASE_FRAME] * len(poses), child_frame=[frame] * len(poses),
    )  # fmt: skip
    rec.send_columns(path, [_times(stamps)], columns)


def _log_robot(rec: rr.RecordingStream, episode: Episode, urdf: Path) -> set[str]:
    """The robot, moved by the joint angles; returns the names of its frames."""
    try:
        tree = rr.urdf.UrdfTree.from_file_path(urdf, entity_path_prefix="robot")
    except (OSError, RuntimeError, ValueError) as error:
        raise ArgumentError(f"urdf: {urdf} is not a robot's description: {' '.join(str(error).split())}") from None
    tree.log_urdf_to_recording(rec)
    series = episode.series("joints")
    for i, name in enumerate(JOINTS):
        joint = tree.get_joint_by_name(name)
        if joint is not None:
            # not clamped: a joint beyond its range is what one wants to see
            columns = joint.compute_transform_columns(series.values["position"][:, i].tolist(), clamp=False)
            rec.send_columns(f"tf/{name}", [_times(series.stamps)], columns)
    root = tree.root_link().name
    frames = {root, *(j.child_link for j in tree.joints())}
    if BASE_FRAME not in frames:
        rec.log("tf_static/base", rr.Transform3D(parent_frame=BASE_FRAME, child_frame=root), static=True)
    return frames


def _log_scene(rec: rr.RecordingStream, episode: Episode, limits) -> None:
    box = view_scene.workspace(limits)
    _frame(rec, "scene/workspace", BASE_FRAME)
    drawn = rr.Boxes3D(centers=[box.pose[:3]], half_sizes=[[s / 2 for s in box.size]], colors=[_rgba(box.rgba)])
    rec.log("scene/workspace", drawn, static=True)
    if not episode.has("objects"):
        return
    series = episode.series("objects")
    poses = series.values["poses"]
    for i, shape in enumerate(view_scene.objects(poses[0])):
        frame, path = f"object_{shape.name}", f"scene/{shape.name}"
        _send_pose(rec, f"tf/{frame}", series.stamps, poses[:, i], frame)
        _frame(rec, path, frame)
        rec.log(
            path, rr.Boxes3D(half_sizes=[[s / 2 for s in shape.size]], colors=[_rgba(shape.rgba)], fill_mode="solid"),
            rr.TransformAxes3D(0.04), static=True,
        )  # fmt: skip


def _log_force(rec: rr.RecordingStream, episode: Episode, limits, frames: set[str]) -> None:
    series = episode.series("wrench")
    force = series.values["force"]
    newtons = np.linalg.norm(force, axis=-1)
    rec.send_columns("force/norm", [_times(series.stamps)], rr.Scalars.columns(scalars=newtons))
    ends = series.stamps[[0, -1]]
    rec.send_columns("force/limit", [_times(ends)], rr.Scalars.columns(scalars=[limits.force_n] * 2))
    rec.log("force/limit", rr.SeriesLines(colors=[_rgba(view_scene.OVER_LIMIT_COLOUR)], names=["limit"]), static=True)
    rec.log("force/norm", rr.SeriesLines(colors=[_rgba(view_scene.FORCE_COLOUR)], names=["wrist force"]), static=True)
    _, first = next(episode.messages("wrench"))
    frame = first.header.frame_id or "wrist_ft"
    if frame not in frames:
        mount = view_scene.SENSOR_FROM_TCP.get(frame, geometry.IDENTITY_POSE)
        rec.log("tf_static/wrist_sensor", _transform(mount, "tcp_measured", frame), static=True)
    _frame(rec, "scene/wrist_force", frame)
    arrows = [view_scene.force_arrow(f, geometry.IDENTITY_POSE, limits.force_n) for f in force]
    columns = rr.Arrows3D.columns(
        vectors=[a.end for a in arrows], colors=[_rgba(a.rgba) for a in arrows], radii=[0.004] * len(arrows)
    )
    rec.send_columns("scene/wrist_force", [_times(series.stamps)], columns)


def _log_cameras(rec: rr.RecordingStream, episode: Episode) -> None:
    for camera in CAMERAS:
        if not episode.has(camera):
            continue
        stamps, blobs = [], []
        for stamp, image in episode.images(camera):
            # a tenth of the memory; who needs the pixels themselves reads the bag
            ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _JPEG)
            if ok:
                stamps.append(stamp)
                blobs.append(jpeg.tobytes())
        if stamps:
            columns = rr.EncodedImage.columns(blob=blobs, media_type=["image/jpeg"] * len(blobs))
            rec.send_columns(f"cameras/{camera}", [_times(np.array(stamps))], columns)


def _log_steps(rec: rr.RecordingStream, episode: Episode) -> None:
    steps, tasks, r = episode.steps(), episode.record.tasks, episode.record
    rows = [
        ("episode", r.episode_id), ("cell", r.cell), ("triplet", r.triplet), ("seed", r.seed),
        ("policy", r.policy_version), ("steps", r.steps), ("ended by", r.termination_reason),
        ("success", "yes" if r.success else "no"), ("peak force", f"{r.peak_force_n:.1f} N"),
        *((f"return {t}", f"{v:.2f}") for t, v in zip(tasks, r.returns)),
    ]  # fmt: skip
    table = "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows)])
    rec.log("episode", rr.TextDocument(table, media_type=rr.MediaType.MARKDOWN), static=True)
    if not steps:
        return
    times = [_times(np.array([s.stamp for s in steps])), rr.TimeColumn("step", sequence=[s.index for s in steps])]
    rewards = np.stack([s.rewards for s in steps])
    for i, task in enumerate(tasks[: rewards.shape[1]]):
        rec.log(f"rewards/{task}", rr.SeriesLines(colors=[_SERIES[i % len(_SERIES)]], names=[task]), static=True)
        rec.send_columns(f"rewards/{task}", times, rr.Scalars.columns(scalars=rewards[:, i]))
    for i, name in enumerate(ACTION_NAMES):
        rec.log(f"action/{name}", rr.SeriesLines(colors=[_SERIES[i % len(_SERIES)]], names=[name]), static=True)
        rec.send_columns(f"action/{name}", times, rr.Scalars.columns(scalars=[s.action[i] for s in steps]))
    texts = []
    for s in steps:
        lines = view_scene.reward_lines(tasks, s.rewards, None if s.last else s.task)
        head = f"step {s.index}" + (f", ended by {r.termination_reason}" if s.last else "")
        texts.append("```\n" + "\n".join([head, *lines]) + "\n```")
    markdown = [rr.MediaType.MARKDOWN.value]
    rec.send_columns("now", times, rr.TextDocument.columns(text=texts, media_type=markdown * len(texts)))
