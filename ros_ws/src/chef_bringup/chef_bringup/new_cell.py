# SPDX-License-Identifier: Apache-2.0
"""`./chef new-cell NAME`: the config of a cell of your own, from a template that explains itself."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from chef_bringup import paths


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="./chef new-cell", description="Write config/cells/NAME.yaml from config/templates/cell.yaml; docs/your_cell.md."
    )
    result.add_argument("name", metavar="NAME", help="letters, digits and _; begins with a letter")
    return result


def main(words: list[str]) -> int:
    """Write the file; never over another one. Returns the exit status."""
    name = parser().parse_args(words).name
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name, re.ASCII):
        print(f"chef: {name[:80]!r} is no name of letters, digits and _ that begins with a letter", file=sys.stderr)
        return 2
    share = paths.share()
    path = share / "config" / "cells" / f"{name}.yaml"
    text = (share / "config" / "templates" / "cell.yaml").read_text(encoding="utf-8").replace("NAME", name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        print(f"chef: {_shown(path)} exists and stays as it is; choose another name, or remove it", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"chef: {_shown(path)} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    shown = _shown(path)
    print(f"""{shown} is written: edit what is marked CHANGE there. Then

    ./chef doctor {shown} --fake-devices      without any hardware
    ./chef launch collect.launch.py cell:={shown} fake_devices:=true episodes:=3
    ./chef doctor {shown}                     with all of it

docs/your_cell.md goes through the rest.""")
    return 0


def _shown(path: Path) -> str:
    """As short as it can be typed from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
