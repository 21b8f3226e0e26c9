# SPDX-License-Identifier: Apache-2.0
"""Every file that Slicer needs is in a list of a CMakeLists.txt: what is not listed is not shipped."""

import importlib.util
import re

import pytest

from static.tree import ROOT, files_below, ignored_by_git

SHIPPED = {"ProstateXfer": ("",), "ProstateXferLib": ("",), "Resources": ("Models", "Terminology", "Scripts")}
HINT = "`make lists` writes the lists"


def listed(text):
    """File names by the keyword of slicerMacroBuildScriptedModule they are handed over with: SCRIPTS and RESOURCES."""
    text = re.sub(r"#.*", "", text)
    lists = {name: words.split() for name, words in re.findall(r"\bset\((\w+)([^()]*)\)", text)}
    call = re.search(r"slicerMacroBuildScriptedModule\(([^()]*)\)", text)[1]
    handed = re.findall(r"\b(SCRIPTS|RESOURCES)\s+\$\{(\w+)\}", call)
    return {keyword: lists[name] for keyword, name in handed}


def in_tree(folder):
    """The files of a folder that are shipped: below the given folders, ours, and not build products."""
    base = ROOT / folder
    paths = [path for part in SHIPPED[folder] if (base / part).is_dir() for path in files_below(base / part)]
    ignored = ignored_by_git(paths)
    return sorted(
        path.relative_to(base).as_posix() for path in paths if path not in ignored and path.name != "CMakeLists.txt"
    )


def differences(files, lists):
    """What is wrong with lists, as sentences."""
    every = lists["SCRIPTS"] + lists["RESOURCES"]
    faults = [f"{name} is not listed" for name in sorted(set(files) - set(every))]
    faults += [f"{name} is listed and not there" for name in sorted(set(every) - set(files))]
    faults += [f"{name} is listed twice" for name in sorted(set(every)) if every.count(name) > 1]
    faults += [f"{name} is no script" for name in lists["SCRIPTS"] if not name.endswith(".py")]
    return faults + [f"{name} is a script, not a resource" for name in lists["RESOURCES"] if name.endswith(".py")]


@pytest.mark.parametrize("folder", SHIPPED)
def test_lists_and_tree_agree(folder):
    lists = listed((ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert differences(in_tree(folder), lists) == [], HINT
    assert all(names == sorted(names) for names in lists.values()), HINT


def test_the_lists_hold_what_must_be_there():
    folders = {name: (ROOT / name / "CMakeLists.txt").read_text(encoding="utf-8") for name in SHIPPED}
    assert "Resources/UI/ProstateXfer.ui" in listed(folders["ProstateXfer"])["RESOURCES"]
    assert "training/recipes/shipped/prostate-dil-small.yaml" in listed(folders["ProstateXferLib"])["RESOURCES"]
    assert "Models/registry.json" in listed(folders["Resources"])["RESOURCES"]


@pytest.mark.parametrize("folder", ["ProstateXferLib", "Resources"])
def test_library_and_resources_go_into_folders_of_their_own(folder):
    assert "WITH_SUBDIR" in (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")


def test_make_lists_would_change_nothing():
    path = ROOT / "Testing" / "CMake" / "update_lists.py"
    specification = importlib.util.spec_from_file_location("update_lists", path)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    for name, patterns in script.SHIPPED.items():
        before = (ROOT / name / "CMakeLists.txt").read_text(encoding="utf-8")
        assert script.rewritten(before, script.files_of(ROOT / name, patterns)) == before, HINT


EXAMPLE = """\
set(A
  # begin of list: scripts
  a.py
  b/c.py
  )
set(B d.yaml)
slicerMacroBuildScriptedModule(NAME X SCRIPTS ${A} RESOURCES ${B} WITH_SUBDIR)
"""


def test_the_lists_are_read():
    assert listed(EXAMPLE) == {"SCRIPTS": ["a.py", "b/c.py"], "RESOURCES": ["d.yaml"]}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["a.py", "b/c.py", "d.yaml", "e.py"], ["e.py is not listed"]),
        (["a.py", "d.yaml"], ["b/c.py is listed and not there"]),
        (["a.py", "b/c.py", "d.yaml"], []),
    ],
)
def test_a_difference_is_told(files, told):
    assert differences(files, listed(EXAMPLE)) == told


def test_a_file_in_the_wrong_list_is_told():
    lists = {"SCRIPTS": ["a.yaml"], "RESOURCES": ["b.py", "b.py"]}
    assert len(differences(["a.yaml", "b.py"], lists)) == 4  # twice, and three times in the wrong list


def test_every_room_with_tests_is_run_by_ctest():
    folder = ROOT / "Testing" / "Python"
    rooms = {path.parent.name for path in folder.glob("*/test_*.py")}
    listed_rooms = re.search(r"foreach\(room ([^)]*)\)", (folder / "CMakeLists.txt").read_text(encoding="utf-8"))[1]
    assert rooms <= set(listed_rooms.split())
