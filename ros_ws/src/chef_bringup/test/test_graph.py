# SPDX-License-Identifier: Apache-2.0
"""Arguments: what is right passes, what is wrong is one clear line, and never a traceback."""

import dataclasses

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chef_bringup import loader, paths, process
from chef_bringup.graph import ArgumentError
from chef_bringup.graphs import collect
from chef_bringup.graphs.collect import graph


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


def test_an_argument_given_twice_is_refused():
    with pytest.raises(ArgumentError, match="given twice"):
        graph.parse(["seed:=1", "seed:=2"])


NAMES = st.sampled_from([argument.name for argument in graph.arguments]) | st.text()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text() | st.builds("{}:={}".format, NAMES, st.text()), max_size=4))
def test_any_words_are_taken_or_refused_in_one_line(words):
    try:
        values = graph.parse(words)
    except ArgumentError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert set(values) == set(graph.defaults())
        assert graph.build(values)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_cell_or_launch_file_name_is_taken_or_refused(text):
    assume("\0" in text or not Path(text).is_file())      # it is a file's name, of this machine
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
    (tmp_path / "mine.yaml").write_text("")
    assert build(cell="mine.yaml")["arm"].parameters["cell_config"] == str(tmp_path / "mine.yaml")


def check(tmp_path, **given):
    """The pre-flight check with files that exist."""
    (tmp_path / "cell.yaml").write_text("")
    values = {"cell": str(tmp_path / "cell.yaml"), "learner": "false", "output": str(tmp_path / "out"), **given}
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
