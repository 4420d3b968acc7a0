# SPDX-License-Identifier: Apache-2.0
"""Arguments: what is right passes, what is wrong is one clear line, and never a traceback."""

import dataclasses
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chef_bringup import loader, paths, process
from chef_bringup.graph import ArgumentError
from chef_bringup.graphs import collect
from chef_bringup.graphs.collect import CAMERAS, graph
from chef_control.fakes.plan import PICTURE_AGE_S, SHARED_AGE_S
from chef_task.cell import CellConfig

SIM = paths.share() / "config" / "cells" / "sim.yaml"


def build(**given):
    """The nodes by name."""
    return {spec.name: spec for spec in graph.build(graph.validate(given))}


def test_defaults_are_valid():
    assert graph.parse([]) == graph.defaults()


def test_every_argument_is_described():
    assert all(argument.description for argument in graph.arguments)
    manual = graph.manual()
    assert all(argument.name in manual for argument in graph.arguments)


@pytest.mark.parametrize(
    "word, line",
    [
        ("episods:=3", "collect has no argument 'episods'; did you mean 'episodes'?"),
        ("episodes", "'episodes' is not of the form name:=value"),
        ("episodes=3", "'episodes=3' is not of the form name:=value"),
        ("episodes:=x", "episodes: 'x' is not a whole number"),
        ("episodes:=0", "episodes: '0' is not within 1..1000000000"),
        ("triplet:=6", "triplet: '6' is none of 1, 2, 3, 4, 5"),
        ("speed:=2", "speed: '2' is none of 1, max"),
        ("policy:=best", "policy: 'best' is not latest, random, module:Class or a folder with a '/' in it"),
        ("namespace:=1cell", "namespace: '1cell' is not a ROS namespace"),
        ("output:=", "output: '' is empty"),
        ("remap:=policy", "remap: 'policy' is not a list of node:topic=other_topic, separated by commas"),
        ("patience:=0.5", "patience: '0.5' is not within 1..100"),
        ("min_free_gib:=nan", "min_free_gib: 'nan' is not within 0..1000000"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(word, line):
    with pytest.raises(ArgumentError) as caught:
        graph.parse([word])
    assert str(caught.value) == line


@pytest.mark.parametrize("name", ["raw", "png", "jpeg", "jpeg:1", "jpeg:100", "jpeg:0", "jpeg:101", "webp", "", "png "])
def test_image_codecs_are_those_of_bags(name):
    from chef_task.bag import codec

    try:
        codec.Codec.parse(name)
    except ValueError:
        with pytest.raises(ArgumentError, match="image_codec"):
            graph.validate({"image_codec": name})
    else:
        assert build(output="runs/first", image_codec=name)["recorder"].parameters["image_codec"] == name
    assert graph.defaults()["image_codec"] == codec.DEFAULT


def test_tasks_are_those_of_the_rewards(tmp_path, monkeypatch):
    from chef_task.rewards import TASKS

    assert collect.TASKS == TASKS
    monkeypatch.chdir(tmp_path)
    nodes = build(evaluate="lift", trials="trials.json")
    assert nodes["policy"].parameters["task"] == "lift"
    assert nodes["collect"].parameters["trials"] == str(tmp_path / "trials.json")
    with pytest.raises(ArgumentError, match="trials: there is no file"):
        check(tmp_path, trials="trials.json")


def test_an_argument_given_twice_is_refused():
    with pytest.raises(ArgumentError, match="given twice"):
        graph.parse(["seed:=1", "seed:=2"])


NAMES = st.sampled_from([argument.name for argument in graph.arguments]) | st.text()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text() | st.builds("{}:={}".format, NAMES, st.text()), max_size=4))
def test_any_words_are_taken_or_refused_in_one_line(words):
    try:
        values = graph.parse(words)
        assert set(values) == set(graph.defaults())
        assert graph.build(values)
    except ArgumentError as error:
        assert len(str(error).splitlines()) == 1


@settings(max_examples=100, deadline=None)
@given(st.text())
@example("0" * 300)     # no file may be named so
def test_any_cell_or_launch_file_name_is_taken_or_refused(text):
    assume(not os.path.isfile(text))      # it is a file's name, of this machine
    assume(text.partition(".")[0] not in ("collect", "view"))
    for call in (lambda: collect.check(graph.validate({"cell": text})), lambda: loader.find(text)):
        with pytest.raises(ArgumentError) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1


def test_the_nodes_are_those_of_the_architecture():
    assert list(build()) == [
        "world", "arm", "gripper", "wrench",
        "camera_basket_front_left", "camera_basket_front_right", "camera_basket_back_left",
        "tracker", "controller", "safety", "reset", "episode", "policy", "recorder", "manager", "collect", "learner",
    ]  # fmt: skip


def test_only_the_learner_is_optional_and_gives_way():
    nodes = build()
    assert [name for name, spec in nodes.items() if not spec.required] == ["learner"]
    assert [name for name, spec in nodes.items() if spec.ends_graph] == ["collect"]
    niceness = {name: spec.nice for name, spec in nodes.items()}
    assert niceness.pop("learner") == 19 and niceness.pop("world") == 0
    assert all(0 < nice < 19 for nice in niceness.values())


def test_state_needs_no_cameras_and_learner_false_no_learner():
    names = set(build(observation="state", learner="false"))
    assert not any(name.startswith("camera_") for name in names)
    assert "learner" not in names
    assert build(observation="state")["learner"].parameters["learner_config"].endswith("config/learner/state.yaml")


def test_a_storage_brings_a_node_that_nobody_needs_and_leaves_learning_to_the_fleet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nodes = build(storage="s3://bucket/fleet", namespace="cell_7")
    assert "learner" not in nodes and not nodes["storage"].required and nodes["storage"].respawn
    assert nodes["storage"].parameters["storage"] == "s3://bucket/fleet" and nodes["storage"].parameters["fetch_policies"]
    assert build(storage="fleet", policy="random")["storage"].parameters["storage"] == str(tmp_path / "fleet")
    assert not build(storage="fleet", policy="random")["storage"].parameters["fetch_policies"]
    for given, follows in (({"storage": "fleet"}, True), ({"storage": "fleet", "trials": "t.json"}, False), ({}, False)):
        assert build(**given)["collect"].parameters["orders"] is follows
    with pytest.raises(ArgumentError, match="learner: a fleet's learner works with its storage"):
        check(tmp_path, storage="fleet", learner="true")
    with pytest.raises(ArgumentError, match="storage: nosuch://x: cannot be opened"):
        check(tmp_path, storage="nosuch://x", learner="auto")


def test_every_node_knows_of_lockstep_and_takes_the_time_from_stamps():
    for speed, lockstep in (("1", False), ("max", True)):
        for spec in build(speed=speed).values():
            assert spec.parameters["lockstep"] is lockstep
            assert "use_sim_time" not in spec.parameters


def test_paths_are_absolute_and_from_the_callers_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = build(output="runs/first")["recorder"].parameters
    assert parameters["run_dir"] == str(tmp_path / "runs" / "first")
    assert parameters["cell_config"] == str(paths.share() / "config" / "cells" / "sim.yaml")
    assert len(parameters["world_socket"]) < 100
    urdf = str(SIM.parents[1] / "robots" / "sawyer.urdf")
    (tmp_path / "mine.yaml").write_text(SIM.read_text().replace("../robots/sawyer.urdf", urdf))
    assert build(cell="mine.yaml")["arm"].parameters["cell_config"] == str(tmp_path / "mine.yaml")


def check(tmp_path, **given):
    """The pre-flight check with files that exist."""
    values = {"cell": str(SIM), "learner": "false", "output": str(tmp_path / "out"), **given}
    graph.check(graph.validate(values))


def test_preflight_passes_and_makes_the_output(tmp_path):
    check(tmp_path, min_free_gib="0")
    assert (tmp_path / "out").is_dir()


def test_preflight_refuses_what_cannot_end_well(tmp_path):
    with pytest.raises(ArgumentError, match="GiB free"):
        check(tmp_path, min_free_gib="1000000")
    with pytest.raises(ArgumentError, match="cell: there is no file"):
        check(tmp_path, cell=str(tmp_path / "none.yaml"))
    with pytest.raises(ArgumentError, match="learner_config: there is no file"):
        check(tmp_path, learner="true", learner_config=str(tmp_path / "none.yaml"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="output: cannot write"):
        check(tmp_path, output=str(tmp_path / "file" / "out"))
    with pytest.raises(ArgumentError, match="output: cannot write"):
        check(tmp_path, output="/proc/none")


def test_a_policy_may_be_the_folder_of_a_version(tmp_path, monkeypatch):
    folder = tmp_path / "policies" / "v000001"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for given in ("policies/v000001", "./policies/v000001/", str(folder)):
        check(tmp_path, policy=given)
        assert build(policy=given)["policy"].parameters["policy"] == str(folder)
    with pytest.raises(ArgumentError, match="policy: there is no folder"):
        check(tmp_path, policy="policies/v000002")
    assert build(policy="my.module:Mine")["policy"].parameters["policy"] == "my.module:Mine"


def test_the_launch_file_holds_the_same_graph():
    assert loader.load(loader.find("collect.launch.py")) is graph
    assert loader.find("collect") == loader.find("collect.launch.py")
    with pytest.raises(ArgumentError, match="did you mean 'collect.launch.py'"):
        loader.find("colect.launch.py")


def test_a_graph_is_plain_data():
    assert dataclasses.replace(graph, name="other").name == "other"


def test_a_topic_may_have_another_name_for_a_node():
    nodes = build(remap="policy:tick=tick_relayed,arm:arm/velocity_command=other")
    assert nodes["policy"].remap == {"tick": "tick_relayed"} and nodes["episode"].remap == {}
    assert nodes["arm"].remap == {"arm/velocity_command": "other"}
    words = process.command(nodes["policy"], paths.Path("x"), paths.Path("y"))
    assert words[words.index("tick:=tick_relayed") - 1] == "-r"
    with pytest.raises(ArgumentError, match="there is no node 'nose'"):
        build(remap="nose:tick=x")


# A device of a lab's own, with a fake of its own.
LAB = """
from dataclasses import dataclass
from chef_control.fakes.plan import Fake


class Rig:
    FAKE = 'lab_rig:fake'

    @dataclass(frozen=True)
    class Settings:
        port: str = ''
        name: str = ''


def fake(entry, context):
    port = f'{context.folder}/{context.name}'
    return Fake({**entry, 'port': port}, ('lab_rig', '--link', port, '--world', context.world_socket), {'RIG': context.name})
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The config of a real cell, as values that `write` may change."""
    (tmp_path / "lab_rig.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    rig = {"driver": "lab_rig:Rig"}
    values = yaml.safe_load(SIM.read_text())
    values = {**values, "kind": "real", "reset": "stir", "urdf": str(SIM.parents[1] / "robots" / "sawyer.urdf")}
    values["devices"] = {role: {**rig, "port": role} for role in ("arm", "gripper", "wrench", "tracker")}
    values["devices"]["cameras"] = {name: {**rig, "port": name} for name in CAMERAS}

    def write(**changes):
        path = tmp_path / "lab.yaml"
        path.write_text(yaml.safe_dump({**values, **changes}))
        return str(path)

    write.values = values
    return write


def test_a_real_cell_has_no_world_and_is_not_kept_to_this_machine(lab):
    nodes = build(cell=lab())
    assert "world" not in nodes and not any(name.startswith("fake") for name in nodes)
    assert {"arm", "gripper", "wrench", "tracker", "camera_basket_back_left"} <= set(nodes)
    assert nodes["episode"].parameters["physics"] == "real"
    assert not graph.simulated(graph.validate({"cell": lab()}))
    assert graph.simulated(graph.validate({"cell": lab(), "fake_devices": "true"}))
    assert graph.simulated(graph.validate({}))


def test_fakes_are_processes_and_the_drivers_are_led_to_them(lab):
    nodes = build(cell=lab(), fake_devices="true", physics="fast")
    config = yaml.safe_load(Path(nodes["arm"].parameters["cell_config"]).read_text())
    words = nodes["fake_arm"].arguments
    assert words[0] == "lab_rig" and nodes["world"].parameters["world_socket"] == words[words.index("--world") + 1]
    assert config["devices"]["arm"]["port"] == words[words.index("--link") + 1]
    assert nodes["camera_basket_back_left"].env["RIG"] == "basket_back_left" and "RIG" not in nodes["episode"].env
    assert not nodes["fake_arm"].required and nodes["world"].required and "learner" not in nodes
    assert "learner" in build(cell=lab(), fake_devices="true", learner="true")
    assert nodes["episode"].parameters["physics"] == "fake devices, fast"
    for arguments, expected in (({"cell": lab(), "fake_devices": "true"}, "fast"), ({}, "exact"), ({"physics": "fast"}, "fast"),
                                ({"cell": lab(), "fake_devices": "true", "physics": "exact"}, "exact")):
        assert build(**arguments)["world"].parameters["physics"] == expected
    assert config["limits"]["force_n"] == lab.values["limits"]["force_n"] and config["urdf"] == lab.values["urdf"]
    assert CellConfig.load(nodes["arm"].parameters["cell_config"]).limits.sensor_age_s["wrench"] == SHARED_AGE_S
    assert config["limits"]["sensor_age_s"]["objects"] == PICTURE_AGE_S and config["limits"]["command_age_s"] == SHARED_AGE_S


def test_the_devices_of_a_real_cell_are_checked_before_anything_starts(lab, tmp_path):
    devices = lab.values["devices"]
    twice = {**devices["cameras"], "basket_back_left": devices["cameras"]["basket_front_left"]}
    for changes, arguments, text in (
        ({}, {"speed": "max"}, "speed: a real cell's time cannot be simulated"),
        ({"devices": {**devices, "cameras": {}}}, {}, "devices.cameras.basket_front_left is missing"),
        ({"devices": {**devices, "cameras": twice}}, {}, "port is 'basket_front_left', which is also that of"),
        ({"devices": {**devices, "arm": {"driver": "lab_rig:Rig", "baud": 9}}}, {}, "unknown key 'devices.arm.baud'"),
        ({"devices": {**devices, "arm": {"driver": "steam"}}}, {}, "devices.arm.driver: there is no 'steam'"),
        ({"joints": ["a", "b", "c", "d", "e", "f", "g"]}, {}, "has no joint or frame 'a'"),
        ({"home_rad": [0, 0, 0, 0, 0, 5, 0]}, {}, "home_rad: 5 rad is out of the range of joint right_j5"),
        ({"limits": {"reset_centre_m": [600, 0, 260]}}, {}, "limits.reset_centre_m: at home_rad"),
        ({"limits": {"joint_velocity_rad_s": [100] * 7}}, {}, "more than the URDF allows right_j0"),
        ({"calibration": "none.yaml"}, {}, "calibration: there is no file"),
        ({"reset": "place"}, {}, "reset: place lets the simulation put the objects"),
    ):
        with pytest.raises(ArgumentError) as caught:
            check(tmp_path, cell=lab(**changes), **arguments)
        assert text in str(caught.value) and "\n" not in str(caught.value)
    check(tmp_path, cell=lab())
    check(tmp_path, cell=lab(reset="place"), fake_devices="true")   # the world behind the fakes can
    with pytest.raises(ArgumentError, match="fake_devices: a simulated cell has no devices"):
        check(tmp_path, fake_devices="true")


def test_a_tracker_that_needs_pictures_gets_cameras_whatever_the_policy_sees(lab):
    cameras = {f"camera_{name}" for name in CAMERAS}
    for tracker, expected in (("lab_rig:Rig", set()), ("colour", cameras)):
        path = lab(devices={**lab.values["devices"], "tracker": {"driver": tracker}})
        assert cameras & set(build(cell=path, fake_devices="true", observation="state")) == expected


def test_a_device_without_a_fake_is_named(lab):
    devices = {**lab.values["devices"], "arm": {"driver": "dataclasses:Field"}}
    with pytest.raises(ArgumentError, match="devices.arm.driver: 'dataclasses:Field' has no"):
        build(cell=lab(devices=devices), fake_devices="true")
