# SPDX-License-Identifier: Apache-2.0
"""Counts test cases from xunit files; `colcon test-result` counts each ctest as one case more."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """A test case that failed."""

    package: str
    name: str
    message: str


@dataclass
class Results:
    """Of all packages together."""

    passed: int = 0
    skipped: int = 0
    failures: list[Failure] | None = None

    def __post_init__(self) -> None:
        self.failures = self.failures or []


def files(build: Path, package: str) -> list[Path]:
    """The xunit files of one package: of ament_cmake and of ament_python."""
    own = build / package
    found = list((own / "test_results").rglob("*.xunit.xml")) if (own / "test_results").is_dir() else []
    return sorted(found + [path for path in (own / "pytest.xml",) if path.is_file()])


def read(build: Path, packages: list[str]) -> Results:
    """Count the cases in the packages' files; a file that cannot be read is a failure."""
    results = Results()
    for package in packages:
        for path in files(build, package):
            try:
                cases = ElementTree.parse(path).getroot().iter("testcase")
            except (ElementTree.ParseError, OSError) as error:
                results.failures.append(Failure(package, path.name, f"cannot be read: {error}"))
                continue
            _count(results, package, cases)
    return results


def _count(results: Results, package: str, cases) -> None:
    # pytest writes a case twice when the test fails and its tear-down fails too.
    seen: dict[str, str] = {}
    for case in cases:
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        bad = [child for child in case if child.tag in ("failure", "error")]
        if bad:
            message = "\n".join(filter(None, (bad[0].get("message"), bad[0].text)))
            if seen.get(name) != "failed":
                results.failures.append(Failure(package, name, message.strip()))
            if seen.get(name) == "passed":
                results.passed -= 1
            seen[name] = "failed"
        elif case.find("skipped") is not None:
            results.skipped += 1
        elif seen.get(name) != "failed":
            results.passed += 1
            seen[name] = "passed"
