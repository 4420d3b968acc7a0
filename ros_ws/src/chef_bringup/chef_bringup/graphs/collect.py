# SPDX-License-Identifier: Apache-2.0
"""The collect graph: one cell that collects episodes, with its learner beside it (see ARCHITECTURE.md)."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from chef_bringup import paths, preflight
from chef_bringup.graphs import cell as cells
from chef_bringup.graph import Argument, ArgumentError, Graph, NodeSpec, ParameterValue, integer, pattern

CAMERAS = ("basket_front_left", "basket_front_right", "basket_back_left")

# as chef_task.rewards, which needs numpy and so the environment
TASKS = ("open", "reach_grasp", "lift", "place", "stack", "stack_leave")
_NAME = r"[A-Za-z][A-Za-z0-9_]*"
_TOPIC = rf"{_NAME}(?:/{_NAME})*"
_MODULE_CLASS = rf"latest|random|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def _gib(value: str) -> None:
    try:
        wanted = float(value)
    except ValueError:
        raise ValueError("is not a number") from None
    if not 0.0 <= wanted <= 1e6:
        raise ValueError("is not within 0..1000000")


def _patience(value: str) -> None:
    try:
        wanted = float(value)
    except ValueError:
        raise ValueError("is not a number") from None
    if not 1.0 <= wanted <= 100.0:
        raise ValueError("is not within 1..100")


def _path(value: str) -> None:
    """Printable, as it goes into parameter files and messages."""
    if not value.isprintable():
        raise ValueError("holds characters that cannot be printed")


def _policy(value: str) -> None:
    """A name, or with a slash in it the folder of a version; `check` sees whether that exists."""
    if "/" in value:
        _path(value)
    else:
        pattern(_MODULE_CLASS, "latest, random, module:Class or a folder with a '/' in it")(value)


def _remap(value: str) -> dict[str, dict[str, str]]:
    """`node:topic=other,...` as node to topic to other name."""
    found: dict[str, dict[str, str]] = {}
    for word in filter(None, value.split(",")):
        match = re.fullmatch(rf"({_NAME}):({_TOPIC})=({_TOPIC})", word, re.ASCII)
        if match is None:
            raise ValueError("is not a list of node:topic=other_topic, separated by commas")
        found.setdefault(match[1], {})[match[2]] = match[3]
    return found


def _not_empty(value: str) -> None:
    if not value.strip():
        raise ValueError("is empty")
    _path(value)


ARGUMENTS = (
    Argument("episodes", "10", "how many episodes to collect", check=integer(1, 10**9)),
    Argument("output", "runs/collect", "folder for bags, policies and logs; made if missing", check=_not_empty),
    Argument("triplet", "1", "which three objects lie in the basket, 1 to 5", choices=("1", "2", "3", "4", "5")),
    Argument(
        "policy", "latest",
        "who acts: latest (the learner's newest, random until there is one), random, module:Class, or the folder of "
        "a version, with a '/' in it",
        check=_policy,
    ),
    Argument(
        "observation", "pixels", "what the policy sees; state needs no cameras and starts none",
        choices=("pixels", "state"),
    ),
    Argument("speed", "1", "1: wall-clock time; max: lockstep, as fast as the machine allows", choices=("1", "max")),
    Argument(
        "physics", "auto", "of the simulated world: exact, or fast with coarser steps; auto: exact, but fast behind fakes",
        choices=("auto", "exact", "fast"),
    ),
    Argument(
        "image_codec", "png",
        "how bags keep images: raw, png (lossless), or jpeg:QUALITY, 1 to 100 (nearly lossless, smaller if noisy)",
        check=pattern(r"raw|png|jpeg(:([1-9][0-9]?|100))?", "raw, png or jpeg:QUALITY with 1 to 100"),
    ),
    Argument("seed", "0", "of everything random", check=integer(0, 2**31 - 1)),
    Argument("steps", "400", "steps of 50 ms in an episode", check=integer(1, 10**6)),
    Argument(
        "learner", "auto", "start a learner beside the cell; auto: unless there is a storage, which has one of its own, or "
        "devices are fakes, which leave it no time",
        choices=("auto", "true", "false"),
    ),
    Argument("learner_config", "", "file for the learner; empty: config/learner/<observation>.yaml", check=_path),
    Argument(
        "trials", "",
        "file with a list of trials, each with its policy and scene, that are run instead of episodes (./chef stage execute)",
        check=_path,
    ),
    Argument(
        "evaluate", "", "act for this one task alone, by the mean of its policy, instead of collecting",
        choices=("", *TASKS),
    ),
    Argument(
        "storage", "",
        "shared storage of a fleet, a path or URL as s3://bucket/name: bags go there, the newest policy comes from there; "
        "and what an experiment has the cell do; namespace is the cell's name in it (docs/fleet.md)",
        check=_path,
    ),
    Argument("cell", "config/cells/sim.yaml", "file that describes the cell", check=_not_empty),
    Argument(
        "fake_devices", "false", "of a real cell: start fakes that speak as its devices do, before one simulated world",
        choices=("true", "false"),
    ),
    Argument("namespace", "cell_1", "ROS namespace of the cell", check=pattern(f"{_NAME}(/{_NAME})*", "a ROS namespace")),
    Argument(
        "log_level", "info", "of all nodes", choices=("debug", "info", "warn", "error", "fatal"),
    ),
    Argument(
        "remap", "", "other names of topics for single nodes, to put something of yours between: node:topic=other,...",
        check=_remap,
    ),
    Argument(
        "patience", "1",
        "how many times longer than usual to wait for nodes at the start, and for one another in lockstep: where many "
        "graphs share a machine",
        check=_patience,
    ),
    Argument("min_free_gib", "2", "refuse to start with less free disk than this, GiB", check=_gib),
)  # fmt: skip


def output(values: Mapping[str, str]) -> str:
    """The absolute folder of the run."""
    return str(paths.output(values["output"]))


def _learner_config(values: Mapping[str, str]) -> Path:
    return paths.resolve(values["learner_config"] or f"config/learner/{values['observation']}.yaml")


def _policy_name(values: Mapping[str, str]) -> str:
    """A folder as an absolute path, from the caller's directory; else the name as it is."""
    value = values["policy"]
    return str(paths.output(value)) if "/" in value else value


def _storage(values: Mapping[str, str]) -> str:
    """A path as an absolute one, from the caller's directory; else the URL as it is."""
    value = values["storage"]
    return value if "://" in value or not value else str(paths.output(value))


def _check_storage(values: Mapping[str, str]) -> None:
    """Not whether it is there: cells work without."""
    # not at the top: launch arguments are checked before the environment with fsspec is entered
    from chef_task.storage import Storage, StorageError, cell_place

    if values["learner"] == "true":
        raise ArgumentError("learner: a fleet's learner works with its storage: ./chef fleet learn")
    try:
        Storage(_storage(values))
        cell_place(values["namespace"])
    except StorageError as error:
        raise ArgumentError(f"storage: {error}") from None


def _learns(values: Mapping[str, str]) -> bool:
    """Whether a learner starts beside the cell."""
    if values["learner"] == "auto":
        return not values["storage"] and values["fake_devices"] != "true"
    return values["learner"] == "true"


def check(values: Mapping[str, str]) -> None:
    """What must hold before anything starts; raises ArgumentError."""
    if values["storage"]:
        _check_storage(values)
    preflight.readable_file("cell", paths.resolve(values["cell"]))
    cells.check(values)
    policy = _policy_name(values)
    if "/" in policy and not os.path.isdir(policy):
        raise ArgumentError(f"policy: there is no folder {policy!r}")
    if values["trials"]:
        preflight.readable_file("trials", paths.output(values["trials"]))
    if _learns(values):
        preflight.readable_file("learner_config", _learner_config(values))
    folder = Path(output(values))
    preflight.writable_output(folder)
    preflight.free_space(folder, float(values["min_free_gib"]))


@functools.cache
def _private_folder() -> str:
    """For the world's socket: short, as a Unix socket's path may have 107 bytes, and closed to other users."""
    folder = tempfile.mkdtemp(prefix="chef-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def build(values: Mapping[str, str]) -> list[NodeSpec]:
    """The nodes, in the order in which they start."""
    lockstep = values["speed"] == "max"
    observation = values["observation"]
    world_socket = f"{_private_folder()}/world.sock"
    devices = cells.hardware(values, Path(_private_folder()), world_socket)
    patience = float(values["patience"])
    common: dict[str, ParameterValue] = {
        "lockstep_deadline_s": 5.0 * patience,
        "device_deadline_s": 10.0 * patience,
        # Not use_sim_time: these nodes take the time from the stamps of what they are handed, and /clock,
        # which is there for everybody else, would wake each of them once more a tick.
        "lockstep": lockstep,
        "run_dir": output(values),
        "world_socket": world_socket,
        "cell_config": str(devices.cell_config),
        "seed": int(values["seed"]),
    }
    triplet = int(values["triplet"])
    wanted: dict[str, ParameterValue] = {
        "start_deadline_s": 60.0 * patience,
        "episodes": int(values["episodes"]),
        "steps": int(values["steps"]),
        "triplet": triplet,
        "orders": bool(values["storage"]) and not values["trials"],
    }
    managed = {"managed": "gripper arm safety controller reset episode", "configure_deadline_s": 60.0 * patience,
               "activate_deadline_s": 5.0 * patience}

    if values["trials"]:
        wanted["trials"] = str(paths.output(values["trials"]))
    policy = {"policy": _policy_name(values), "observation": observation, "task": values["evaluate"]}
    remap = _remap(values["remap"])

    def node(name: str, executable: str, parameters: Mapping[str, ParameterValue] | None = None, **kwargs) -> NodeSpec:
        return NodeSpec(
            name=name,
            package=kwargs.pop("package", "chef_control"),
            executable=executable,
            namespace=values["namespace"],
            parameters={**common, **(parameters or {})},
            remap=remap.get(name, {}),
            log_level=values["log_level"],
            # The simulated world stands for hardware, which would not share the processor.
            nice=kwargs.pop("nice", 0 if name == "world" else 3),
            # One thread each: seventeen processes with a thread pool each would fight over the cores.
            env={"OMP_NUM_THREADS": "1", **devices.env.get(name, {})},
            **kwargs,
        )

    nodes = []
    if devices.world:
        nodes.append(node("world", "sim_world", {"physics": cells.physics(values), "triplet": triplet}))
    # A fake may be lost as a device may: what comes of it is the drivers' matter.
    nodes += [node(name, "fake_device", arguments=words, required=False, nice=1) for name, words in devices.fakes.items()]
    nodes += [node("arm", "arm_driver"), node("gripper", "gripper_driver"), node("wrench", "wrench_driver")]
    seen = CAMERAS if observation == "pixels" else devices.tracked
    nodes += [node(f"camera_{name}", "camera_driver", {"camera": name, "triplet": triplet}) for name in seen]
    nodes += [
        # Looking at pictures takes it as long as a policy takes to act, and it may be later than that.
        node("tracker", "object_tracker", {"triplet": triplet}, nice=6 if devices.tracked else 3),
        node("controller", "velocity_controller"),
        node("safety", "safety_gate", told_of_loss=True),
        node("reset", "scene_reset", nice=2),
        node("episode", "episode_node", {"observation": observation, "physics": devices.physics}),
        node("policy", "policy_node", policy, package="chef_learning", nice=1),     # it alone has less than a period
        node("recorder", "recorder", {"observation": observation, "image_codec": values["image_codec"]}, nice=5),
        node("manager", "cell_manager", managed, stops_first=True),
        node("collect", "collect", wanted, ends_graph=True, told_of_loss=True, nice=5),
    ]
    if values["storage"]:
        storage = {"storage": _storage(values), "fetch_policies": values["policy"] == "latest",
                   "orders": wanted["orders"]}
        # Nobody waits for it, and bags that it could not upload stay where they are.
        nodes.append(
            node("storage", "cell_storage", storage, required=False, respawn=True, respawn_limit=8, nice=10)
        )
    if _learns(values):
        # Fakes take what a real cell leaves of two cores.
        learner = {"learner_config": str(_learner_config(values)), "observation": observation, "idle": bool(devices.fakes)}
        # It gives way to the robot's side, and a run goes on without it.
        nodes.append(
            node("learner", "learner_node", learner, package="chef_learning", required=False, respawn=True, nice=19)
        )
    if stray := remap.keys() - {spec.name for spec in nodes}:
        raise ArgumentError(f"remap: there is no node {sorted(stray)[0]!r}")
    return nodes


graph = Graph(
    name="collect",
    description="collect episodes on one cell, simulated or real, and learn from them",
    arguments=ARGUMENTS,
    check=check,
    build=build,
    output=output,
    simulated=cells.is_simulated,
)
