# SPDX-License-Identifier: Apache-2.0
"""What is set up again and when, the lock, and what a user who is not root is told."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import alive, wait_until

from chef_bringup.setup import benchmarks, environment, inputs, ros, system, workspace
from chef_bringup.setup.lock import locked
from chef_bringup.setup.progress import SetupError, run


@pytest.fixture
def checkout(tmp_path):
    """A checkout in miniature."""
    files = {
        "requirements/python.txt": "numpy>=1\n",
        "requirements/apt.txt": "# why\npython3-venv [python]\ncmake\nlibegl1  # rendering\n",
        "requirements/benchmarks/peers.txt": "other==1\n",
        "colcon.meta": "{}",
        "launch/collect.launch.py": "x = 1\n",
        "config/cells/sim.yaml": "a: 1\n",
        "ros_ws/src/chef_a/package.xml": "<package/>",
        "ros_ws/src/chef_a/CMakeLists.txt": "project(a)",
        "ros_ws/src/chef_a/chef_a/node.py": "x = 1\n",
        "ros_ws/src/chef_a/msg/A.msg": "int32 a\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def change(checkout: Path, name: str) -> tuple[bool, bool]:
    """Whether writing to a file changes the inputs of (environment, workspace)."""
    before = inputs.environment_inputs(checkout), inputs.workspace_inputs(checkout)
    path = checkout / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write("# changed\n")
    after = inputs.environment_inputs(checkout), inputs.workspace_inputs(checkout)
    return before[0] != after[0], before[1] != after[1]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("requirements/python.txt", (True, True)),
        ("requirements/apt.txt", (True, True)),
        ("requirements/benchmarks/peers.txt", (False, False)),
        ("ros_ws/src/chef_a/CMakeLists.txt", (False, True)),
        ("ros_ws/src/chef_a/msg/A.msg", (False, True)),
        ("ros_ws/src/chef_a/msg/New.msg", (False, True)),
        ("ros_ws/src/chef_a/chef_a/new.py", (False, True)),
        ("launch/new.launch.py", (False, True)),
        ("colcon.meta", (False, True)),
        # --symlink-install: these need no build
        ("ros_ws/src/chef_a/chef_a/node.py", (False, False)),
        ("config/cells/sim.yaml", (False, False)),
        ("launch/collect.launch.py", (False, False)),
        ("ros_ws/src/chef_a/test/test_new.py", (False, False)),
        ("ros_ws/src/chef_a/README.md", (False, False)),
        ("ros_ws/src/chef_a/chef_a/__pycache__/node.pyc", (False, False)),
        ("ros_ws/build/chef_a/CMakeCache.txt", (False, False)),
        ("runs/first/a", (False, False)),
    ],
)
def test_a_step_is_repeated_only_when_its_inputs_changed(checkout, name, expected):
    assert change(checkout, name) == expected


def test_where_one_part_ends_counts():
    assert inputs.digest(["ab", "c"]) != inputs.digest(["a", "bc"])


def test_a_real_ros_is_another_environment(checkout, monkeypatch):
    prefix = checkout / "opt" / "ros"
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for name in ("rclpy", "ament_cmake", "ros2launch", "launch_ros"):
        (index / name).touch()
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    before = inputs.environment_inputs(checkout)
    assert environment.folder(checkout).name == ".venv" and not ros.has_launch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{checkout}/none:{prefix}")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert ros.sourced_prefix() == prefix and ros.has_launch()
    assert inputs.environment_inputs(checkout) != before
    assert environment.folder(checkout).name == ".venv-jazzy"
    (prefix / "lib" / "python3.8" / "site-packages" / "rclpy").mkdir(parents=True)
    with pytest.raises(SetupError, match="is for python3.8"):
        environment.create(checkout)
    (prefix / "pyvenv.cfg").touch()  # the wheels' own environment, sourced in this shell
    assert inputs.environment_inputs(checkout) == before


def test_a_stamp_is_written_last_and_read_back(tmp_path):
    stamp = tmp_path / "install" / "stamp.json"
    assert inputs.read_stamp(stamp) is None
    inputs.write_stamp(stamp, "abc")
    assert inputs.read_stamp(stamp) == "abc"
    stamp.write_text('{"inp')
    assert inputs.read_stamp(stamp) is None


def test_an_environment_of_a_benchmark_is_made_once(checkout, monkeypatch):
    installed = []

    def make(venv, options):
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python3").touch()

    monkeypatch.setattr(environment, "make", make)
    monkeypatch.setattr(environment, "install", lambda venv, words: installed.append(words))
    for _ in range(2):
        assert benchmarks.ensure(checkout, "peers", "1 GB") == checkout / ".venv-peers" / "bin" / "python3"
    assert installed == [["-r", str(checkout / "requirements" / "benchmarks" / "peers.txt")]]
    (checkout / "requirements" / "benchmarks" / "peers.txt").write_text("other==2\n")
    benchmarks.ensure(checkout, "peers", "1 GB")
    assert len(installed) == 2


def test_an_environment_of_a_benchmark_that_cannot_be_made_is_one_line(checkout, monkeypatch):
    def fail(venv, words):
        raise SetupError("installing Python packages failed with status 1: pip")

    monkeypatch.setattr(environment, "make", lambda venv, options: None)
    monkeypatch.setattr(environment, "install", fail)
    for _ in range(2):  # no stamp was left
        with pytest.raises(SetupError, match=".venv-peers cannot be made; .* network: .*status 1") as caught:
            benchmarks.ensure(checkout, "peers", "1 GB")
        assert len(str(caught.value).splitlines()) == 1


def test_a_benchmarks_environment_sees_nothing_of_ours(monkeypatch):
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "SOMETHING"):
        monkeypatch.setenv(name, "/ours")
    variables = benchmarks.variables()
    assert variables["SOMETHING"] == "/ours" and not {"PYTHONPATH", "LD_LIBRARY_PATH"} & set(variables)


def test_an_unfinished_build_is_not_up_to_date(checkout, monkeypatch):
    monkeypatch.setattr(workspace, "run", lambda *a, **k: (_ for _ in ()).throw(SetupError("stopped")))
    (checkout / "ros_ws" / "build" / "chef_a").mkdir(parents=True)
    (checkout / "ros_ws" / "build" / "chef_a" / "half").touch()
    with pytest.raises(SetupError):
        workspace.build(checkout, dict(os.environ))
    assert not workspace.up_to_date(checkout)
    assert not (checkout / "ros_ws" / "build" / "chef_a").exists()  # of an unknown environment


def test_a_build_leaves_bytecode_whatever_the_environment_says_of_it(checkout, monkeypatch):
    monkeypatch.setattr(workspace, "run", lambda words, **k: None if "colcon" in words else run(words, **k))
    monkeypatch.setattr(environment, "python", lambda root: Path(sys.executable))
    sources = checkout / "ros_ws" / "src" / "chef_a" / "chef_a"
    (sources / "half_written.py").write_text("x = ")
    workspace.build(checkout, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert [path.name.split(".")[0] for path in sources.glob("__pycache__/*.pyc")] == ["node"]


def test_apt_message_for_a_user_who_is_not_root(checkout, monkeypatch):
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(system, "missing", lambda packages: ["cmake", "libegl1"])
    with pytest.raises(SetupError) as caught:
        system.ensure(checkout, is_root=False)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.endswith("sudo apt-get install -y --no-install-recommends cmake libegl1")


def test_optional_packages_are_installed_if_they_can_be_and_hold_nothing_up(checkout, monkeypatch, capsys):
    (checkout / "requirements" / "apt.txt").write_text("cmake\nros-of-old [optional]\n")
    ran = []

    def run(command, **rest):
        ran.append(command[-1])
        if command[-1] == "ros-of-old":
            raise SetupError("installing system packages failed with status 100: apt-get")

    monkeypatch.setattr(system, "run", run)
    monkeypatch.setattr(system, "missing", lambda packages: packages)
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(system, "_check_by_hand", lambda: None)
    system.ensure(checkout, is_root=True)
    assert ran == ["update", "cmake", "ros-of-old"]
    assert "going on without ros-of-old: installing system packages failed" in capsys.readouterr().err
    monkeypatch.setattr(system, "missing", lambda packages: [p for p in packages if p != "cmake"])
    system.ensure(checkout, is_root=False)
    assert "going on without ros-of-old, which are optional" in capsys.readouterr().err and len(ran) == 3


def test_apt_list_has_comments_and_marks(checkout):
    assert system.needed(checkout, own_python=True) == ["python3-venv", "cmake", "libegl1"]
    assert system.needed(checkout, own_python=False) == ["cmake", "libegl1"]


def test_the_builders_include_folders_are_replaced(tmp_path, monkeypatch):
    share = tmp_path / "share" / "a" / "cmake"
    share.mkdir(parents=True)
    text = 'set(x "/opt/python/cp311-cp311/include/python3.11;/tmp/b/site-packages/numpy/_core/include;${_IMPORT_PREFIX}/include")\n'
    (share / "aExport.cmake").write_text(text)

    class Answer:
        returncode, stdout, stderr = 0, "/here/python\n/here/site-packages/numpy/_core/include\n", ""

    monkeypatch.setattr(environment.subprocess, "run", lambda *a, **k: Answer)
    for _ in range(2):  # again changes nothing
        environment._fix_cmake_paths(tmp_path)
        fixed = (share / "aExport.cmake").read_text()
        assert fixed == 'set(x "/here/python;/here/site-packages/numpy/_core/include;${_IMPORT_PREFIX}/include")\n'


def test_the_underlay_can_be_sourced_twice(tmp_path):
    (tmp_path / "lib" / "python3.11" / "site-packages" / "ros_a.libs").mkdir(parents=True)
    environment._write_underlay(tmp_path)
    env = {"PATH": os.environ["PATH"], "AMENT_PREFIX_PATH": "/other"}
    once = environment.source(tmp_path / "setup.bash", env)
    assert once["AMENT_PREFIX_PATH"] == f"{tmp_path}:/other"
    assert once["CMAKE_PREFIX_PATH"] == str(tmp_path)
    assert once["LD_LIBRARY_PATH"].split(":")[0] == str(tmp_path / "lib")
    assert environment.source(tmp_path / "setup.bash", once) == once
    subprocess.run(["sh", "-ec", f'. "{tmp_path}/setup.sh"; . "{tmp_path}/setup.sh"'], check=True, timeout=20)


def test_a_script_that_fails_is_one_line(tmp_path):
    (tmp_path / "setup.bash").write_text("return 3\n")
    with pytest.raises(SetupError, match="cannot source"):
        environment.source(tmp_path / "setup.bash", dict(os.environ))


def test_commands_fail_in_one_line():
    for command, message in (["false"], "failed with status 1"), (["/none"], "is not installed"), (["sleep", "9"], "not done"):
        with pytest.raises(SetupError, match=message):
            run(command, what="it", timeout_s=0.5)


def test_the_lock_waits_and_gives_up(tmp_path):
    order = []

    def hold():
        with locked(tmp_path):
            order.append("first")
            time.sleep(0.5)
            order.append("first done")

    thread = threading.Thread(target=hold)
    thread.start()
    while not order:
        time.sleep(0.01)
    with pytest.raises(SetupError, match="another chef"):
        with locked(tmp_path, deadline_s=0.05, poll_s=0.01):
            pass
    with locked(tmp_path, deadline_s=10, poll_s=0.01):
        order.append("second")
    thread.join()
    assert order == ["first", "first done", "second"]


def test_a_command_that_outlives_a_killed_chef_holds_the_lock(tmp_path):
    code = f"""
import pathlib
from chef_bringup.setup.lock import locked
from chef_bringup.setup.progress import run
with locked(pathlib.Path({str(tmp_path)!r})):
    run(["sh", "-c", "touch {tmp_path}/began; sleep 1; touch {tmp_path}/ended"], what="it", timeout_s=20)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    chef = subprocess.Popen([sys.executable, "-S", "-c", code], env=env)
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    chef.kill()
    chef.wait(10)
    with locked(tmp_path, deadline_s=20, poll_s=0.01):
        assert (tmp_path / "ended").exists()


def test_ctrl_c_ends_what_a_command_started(tmp_path):
    code = f"""
from chef_bringup.setup.progress import run
run(["sh", "-c", "sleep 30 & echo $! > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; wait"], what="it", timeout_s=20)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    chef = subprocess.Popen([sys.executable, "-S", "-c", code], env=env, stderr=subprocess.DEVNULL)
    while not (tmp_path / "pid").exists():
        time.sleep(0.01)
    chef.send_signal(signal.SIGINT)
    assert chef.wait(20) != 0
    pid = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: not alive(pid), 5.0)
