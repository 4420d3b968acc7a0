# SPDX-License-Identifier: Apache-2.0
"""`./chef bench`: runs one script of benchmarks/ inside the environment."""

from __future__ import annotations

import subprocess
import sys

from chef_bringup import paths
from chef_bringup.graph import ArgumentError, did_you_mean


def main(words: list[str]) -> int:
    """List the benchmarks, or run one with the words after its name."""
    folder = paths.share() / "benchmarks"
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    if not words or words[0] in ("-h", "--help"):
        print("usage: ./chef bench NAME [arguments]\n\nbenchmarks:")
        print("\n".join(f"  {name}" for name in names) or "  (none yet)")
        return 0
    if words[0] not in names:
        raise ArgumentError(f"there is no benchmark {words[0]!r}{did_you_mean(words[0], names)}")
    return subprocess.call([sys.executable, str(folder / f"{words[0]}.py"), *words[1:]])
