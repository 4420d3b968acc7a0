# SPDX-License-Identifier: Apache-2.0
"""`./chef test`: runs `colcon test`, shows every failure and ends with one line, `N passed, N failed`."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys

from chef_bringup import domain, paths, results
from chef_bringup.graph import ArgumentError, did_you_mean
from chef_bringup.setup import workspace

_MESSAGE_LINES = 40


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    result = argparse.ArgumentParser(prog="./chef test", description="Build, run all tests and count them.")
    result.add_argument("packages", metavar="PACKAGE", nargs="*", help="only these packages; default: all")
    result.add_argument("-k", metavar="EXPRESSION", help="only tests that match, as pytest's -k")
    result.add_argument("-v", "--verbose", action="store_true", help="show pytest's own output")
    return result


def main(words: list[str]) -> int:
    """Run the command; returns 0 when something ran and nothing failed, else 1."""
    options = parser().parse_args(words)
    root = paths.share()
    known = workspace.packages(root)
    for package in options.packages:
        if package not in known:
            raise ArgumentError(f"there is no package {package!r}{did_you_mean(package, known)}")
    packages = options.packages or known
    build = workspace.folder(root) / "build"
    for package in packages:  # results of an earlier run are not results of this one
        for path in results.files(build, package):
            path.unlink()
    code = _colcon_test(root, packages, options)
    found = results.read(build, packages)
    for failure in found.failures:
        lines = failure.message.splitlines()
        print(f"\nFAILED {failure.package}: {failure.name}")
        print("\n".join(f"    {line}" for line in lines[:_MESSAGE_LINES]))
        if len(lines) > _MESSAGE_LINES:
            print(f"    ... {len(lines) - _MESSAGE_LINES} lines more in {build / failure.package}")
    failed = len(found.failures)
    if code != 0 and failed == 0 and options.k is None:  # something died without a result
        print(f"\nFAILED colcon test ended with status {code}; see {workspace.folder(root) / 'log' / 'latest_test'}")
        failed = 1
    if found.skipped:
        print(f"\n{found.skipped} skipped")
    if found.passed + failed == 0:
        print("\nno test ran")
    print(f"{found.passed} passed, {failed} failed", flush=True)
    return 0 if found.passed and not failed else 1


def _colcon_test(root, packages: list[str], options: argparse.Namespace) -> int:
    env = dict(os.environ)
    added, held = domain.variables(env, simulated=True)
    env.update(added)
    if options.k is not None:
        env["PYTEST_ADDOPTS"] = f"{env.get('PYTEST_ADDOPTS', '')} -k {shlex.quote(options.k)}".strip()
    command = [sys.executable, "-m", "colcon", "test", "--return-code-on-test-failure"]
    # One package after the other: tests with deadlines should not compete for the cores.
    command += ["--executor", "sequential", "--packages-select", *packages]
    command += ["--metas", str(root / "colcon.meta"), "--event-handlers", "desktop_notification-"]
    command += ["console_direct+"] if options.verbose else ["console_stderr-"]
    try:
        return subprocess.call(command, env=env, cwd=workspace.folder(root), stdin=subprocess.DEVNULL)
    finally:
        if held is not None:
            held.release()
