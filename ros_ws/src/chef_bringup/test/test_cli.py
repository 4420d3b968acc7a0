# SPDX-License-Identifier: Apache-2.0
"""The command line, the counting of tests and the choice of a domain."""

import os
import subprocess
import sys

import pytest

from chef_bringup import cli, domain, new_cell, paths, results
from chef_bringup.graph import ArgumentError
from chef_bringup.process import describe, find_executable
from chef_control.cell_check import problems
from chef_task.cell import CellConfig

CHEF = paths.checkout() / "chef" if paths.checkout() else None


def chef(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run ./chef for real, as if inside the environment."""
    env = {**os.environ, "CHEF_INSIDE": str(paths.checkout()), **(env or {})}
    return subprocess.run([sys.executable, str(CHEF), *words], capture_output=True, text=True, timeout=60, env=env)


def test_plain_chef_lists_the_commands():
    answer = chef()
    assert answer.returncode == 0
    assert all(name in answer.stdout for name in cli.COMMANDS)


def test_an_unknown_command_is_one_line():
    answer = chef("lunch")
    assert answer.returncode == 2
    assert answer.stderr == "chef: there is no command 'lunch'; did you mean 'launch'?\n"


@pytest.mark.parametrize("words", [("launch", "collect", "seed:=x"), ("launch", "none"), ("bench", "none"), ("test", "none")])
def test_a_wrong_word_is_one_line_and_status_2(words):
    answer = chef(*words)
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1, answer.stderr


def test_a_wrong_argument_is_found_before_anything_is_set_up(monkeypatch, capsys):
    monkeypatch.delenv("CHEF_INSIDE", raising=False)
    monkeypatch.setattr(cli, "ensure", lambda root: pytest.fail("set up"))
    assert cli.main(["launch", "collect.launch.py", "seed:=x"]) == 2
    assert "seed" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("launch", "--help"), ("launch", "collect", "-s"), ("test", "-h"), ("bench",)])
def test_questions_need_nothing_installed(words):
    answer = chef(*words, env={"CHEF_INSIDE": "", "PATH": "/none"})
    assert answer.returncode == 0 and answer.stdout


def test_launch_help_and_manual():
    assert "--show-args" in chef("launch", "--help").stdout
    assert "episodes (default: 10)" in chef("launch", "collect.launch.py", "--show-args").stdout


XUNIT = """<?xml version="1.0"?><testsuites><testsuite name="pytest">
<testcase classname="t" name="good"/><testcase classname="t" name="skipped"><skipped message="no GPU"/></testcase>
<testcase classname="t" name="bad"><failure message="assert 1 == 2">line</failure></testcase>
<testcase classname="t" name="bad"><error message="tear-down"/></testcase>
<testcase classname="t" name="good2"/><testcase classname="t" name="good2"><error message="tear-down"/></testcase>
</testsuite></testsuites>"""


def test_cases_are_counted_once(tmp_path):
    folder = tmp_path / "chef_a" / "test_results" / "chef_a"
    folder.mkdir(parents=True)
    (folder / "t.xunit.xml").write_text(XUNIT)
    (folder / "t.gtest.xml").write_text("not counted")
    (tmp_path / "chef_b").mkdir()
    (tmp_path / "chef_b" / "pytest.xml").write_text("<testsuite><testcase name='x'/></testsuite>")
    found = results.read(tmp_path, ["chef_a", "chef_b", "chef_c"])
    assert (found.passed, found.skipped) == (2, 1)
    assert [(f.package, f.name) for f in found.failures] == [("chef_a", "t.bad"), ("chef_a", "t.good2")]
    assert found.failures[0].message == "assert 1 == 2\nline"


def test_a_broken_result_is_a_failure(tmp_path):
    (tmp_path / "chef_b").mkdir()
    (tmp_path / "chef_b" / "pytest.xml").write_text("<testsuite><testca")
    assert len(results.read(tmp_path, ["chef_b"]).failures) == 1


def test_a_domain_that_is_in_use_is_not_taken(tmp_path, monkeypatch):
    table = tmp_path / "udp"
    table.write_text("head\n 1: 00000000:1CE8 00000000:0000 07\n 2: 00000000:1DF8 0 0\n")  # 7400 and 7672
    assert domain.busy((str(table), "/none")) == {0, 1}
    monkeypatch.setattr(domain, "_DOMAINS", range(90, 92))
    monkeypatch.setattr(domain, "busy", set)
    monkeypatch.setattr(domain.tempfile, "gettempdir", lambda: str(tmp_path))
    first, second = domain.Domain(), domain.Domain()
    assert {first.number, second.number} == {90, 91}
    with pytest.raises(RuntimeError):
        domain.Domain()
    first.release()
    third = domain.Domain()
    assert third.number == first.number
    second.release(), third.release()


def test_the_users_domain_is_kept():
    mine = {"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}
    added, held = domain.variables(mine, simulated=True)
    assert added == {} and held is None
    added = domain.middleware({"ROS_LOCALHOST_ONLY": "1", "FASTRTPS_DEFAULT_PROFILES_FILE": "own.xml"}, simulated=True)
    assert added == {}
    added = domain.middleware({}, simulated=True)
    assert added == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    added, held = domain.variables({}, simulated=False)
    assert set(added) == {"ROS_DOMAIN_ID"}
    held.release()


def test_ends_are_described():
    assert describe(3) == "exited with code 3"
    assert describe(-11) == "was ended by SIGSEGV"
    assert describe(-99) == "was ended by signal 99"


def test_executables_are_found_as_ros2_run_does(tmp_path):
    path = tmp_path / "b" / "lib" / "p" / "x"
    path.parent.mkdir(parents=True)
    path.write_text("")
    env = {"AMENT_PREFIX_PATH": f":{tmp_path / 'a'}:{tmp_path / 'b'}"}
    with pytest.raises(ArgumentError):
        find_executable("p", "x", env)
    path.chmod(0o755)
    assert find_executable("p", "x", env) == path


def test_a_new_cell_is_written_once_and_never_over_another(tmp_path, monkeypatch, capsys):
    template = paths.share() / "config" / "templates"
    (tmp_path / "config" / "cells").mkdir(parents=True)
    (tmp_path / "config" / "templates").symlink_to(template)
    monkeypatch.setattr(paths, "share", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert new_cell.main(["lab"]) == 0
    written = (tmp_path / "config" / "cells" / "lab.yaml").read_text()
    assert "./chef doctor config/cells/lab.yaml" in capsys.readouterr().out and "NAME" not in written
    (tmp_path / "config" / "cells" / "lab.yaml").write_text("mine")
    assert new_cell.main(["lab"]) == 2 and "exists and stays as it is" in capsys.readouterr().err
    assert (tmp_path / "config" / "cells" / "lab.yaml").read_text() == "mine"
    for name in ("", "../lab", "1", "läb", "a" * 65):
        assert new_cell.main([name]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(list((tmp_path / "config" / "cells").iterdir())) == 1


@pytest.mark.parametrize("name", ["cells/sim", "cells/sawyer", "templates/cell"])
def test_the_cells_that_come_with_it_are_sound(name):
    pytest.importorskip("pypylon")
    cell = CellConfig.load(paths.share() / "config" / f"{name}.yaml")
    assert not list(problems(cell, fake=True))
