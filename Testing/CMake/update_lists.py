# SPDX-License-Identifier: Apache-2.0
"""Write the lists of shipped files in the CMakeLists.txt files anew: what lies in the tree now, sorted.

Run by `make lists`. Testing/Python/static/test_cmake_lists.py compares the lists with the tree in its own way.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Folder with a CMakeLists.txt -> what is shipped of it.
SHIPPED = {
    "ProstateXfer": ("**/*",),
    "ProstateXferLib": ("**/*",),
    "Resources": ("Models/**/*", "Terminology/**/*", "Scripts/**/*"),
}
LIST = re.compile(
    r"(?P<begin>^ *# begin of list: (?P<kind>\w+)\n)(?P<files>.*?)(?P<end>^ *# end of list$)", re.M | re.S
)


def is_shipped(path: Path) -> bool:
    """Whether a path below a folder of SHIPPED is a file of ours: no bytecode, no hidden file, no CMakeLists.txt."""
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and path.name != "CMakeLists.txt" and path.suffix not in {".pyc", ".orig", ".rej"}


def files_of(folder: Path, patterns: tuple[str, ...]) -> dict[str, list[str]]:
    """The shipped files of a folder as sorted posix paths, by the kind of list they belong in."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(folder).as_posix() for path in paths if is_shipped(path.relative_to(folder)))
    return {
        "scripts": [name for name in names if name.endswith(".py")],
        "resources": [name for name in names if not name.endswith(".py")],
    }


def rewritten(text: str, files: dict[str, list[str]]) -> str:
    """The text of a CMakeLists.txt with both lists replaced."""

    def replaced(found: re.Match) -> str:
        lines = "".join(f"  {name}\n" for name in files[found["kind"]])
        return found["begin"] + lines + found["end"]

    return LIST.sub(replaced, text)


def main() -> int:
    """Rewrite what differs and say so."""
    for name, patterns in SHIPPED.items():
        cmake_lists = ROOT / name / "CMakeLists.txt"
        before = cmake_lists.read_text(encoding="utf-8")
        after = rewritten(before, files_of(ROOT / name, patterns))
        if after != before:
            cmake_lists.write_text(after, encoding="utf-8", newline="\n")
            sys.stdout.write(f"{name}/CMakeLists.txt: written anew\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
