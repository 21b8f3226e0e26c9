# SPDX-License-Identifier: Apache-2.0
"""The entry for Slicer's extensions index, and what the index's own check reads in the top CMakeLists.txt.

The check's rules were read in Slicer/ExtensionsIndex, scripts/check_description_files.py; network checks are not here.
"""

import json
import re

import pytest

from static.tree import ROOT

NAME = "ProstateXfer"
SCHEMA = re.compile(
    r"https://raw\.githubusercontent\.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1\.0\.[12]\.json#"
)
KEYS = {"$schema", "category", "scm_url", "scm_revision", "build_dependencies", "build_subdirectory", "tier", "enabled"}
RAW = "https://raw.githubusercontent.com/"


@pytest.fixture(scope="module")
def entry():
    return json.loads((ROOT / f"{NAME}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cmake():
    return (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def value(cmake, name):
    """A variable as the index reads it: on one line, quoted."""
    return re.findall(rf'^set\(EXTENSION_{name} "([^"\n]+)"\)$', cmake, re.MULTILINE)


def test_the_entry_has_what_the_schema_asks_for(entry):
    assert SCHEMA.fullmatch(entry["$schema"])
    assert entry["category"] in {"Segmentation", "Radiotherapy"}
    assert entry["scm_revision"] == "main"
    assert entry["build_dependencies"] == ["PyTorch"]
    assert entry["build_subdirectory"] == "."
    assert entry["tier"] in range(1, 6)
    assert entry.keys() <= KEYS


def test_the_entry_is_written_as_the_index_wants_it():
    content = (ROOT / f"{NAME}.json").read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"}\n")


def test_the_repository_is_named_after_slicer_and_the_extension_is_not(entry):
    repository = re.fullmatch(r"https://github\.com/[\w-]+/([\w-]+)\.git", entry["scm_url"])[1]
    assert repository == f"Slicer{NAME}"
    assert not NAME.lower().startswith("slicer")


def test_the_project_has_the_name_of_the_entry(cmake):
    names = re.findall(r"project\s*\(\s*([^\s)]+)", cmake, re.IGNORECASE)  # the index takes the first, in comments, too
    assert names[0] == NAME


@pytest.mark.parametrize("name", ["HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"])
def test_each_fact_stands_once_on_one_line(name, cmake):
    assert len(value(cmake, name)) == 1


def test_a_fact_on_two_lines_is_not_read():
    assert value('set(EXTENSION_ICONURL\n  "https://x/y.png")', "ICONURL") == []
    assert value('set(EXTENSION_ICONURL "https://x/y.png")', "ICONURL") == ["https://x/y.png"]


def test_both_files_name_the_same_repository_and_dependencies(cmake, entry):
    home = value(cmake, "HOMEPAGE")[0]
    assert entry["scm_url"] == f"{home}.git"
    assert value(cmake, "DEPENDS")[0].split() == entry["build_dependencies"]


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_every_picture_is_a_file_of_this_repository(name, cmake, entry):
    base = entry["scm_url"].removesuffix(".git").replace("https://github.com/", RAW) + f"/{entry['scm_revision']}/"
    for url in value(cmake, name)[0].split():
        assert url.startswith(base)
        assert url.endswith((".png", ".jpg", ".gif"))
        assert (ROOT / url.removeprefix(base)).is_file(), url


def test_licence_and_readme_are_those_of_the_extension(cmake):
    for name, path in re.findall(r'EXTENSION_(LICENSE|README)_FILE "\$\{CMAKE_CURRENT_SOURCE_DIR\}/([^"]+)"', cmake):
        assert (ROOT / path).is_file(), name
    assert "EXTENSION_LICENSE_FILE" in cmake
    assert "EXTENSION_README_FILE" in cmake
