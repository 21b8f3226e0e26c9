# SPDX-License-Identifier: Apache-2.0
"""What the documents say exists: files they link to, options of commands, arguments of the module's functions."""

import argparse
import ast
import functools
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from ProstateXferLib.cli.main import COMMANDS, with_command_joined

_ROOT = Path(__file__).resolve().parents[3]
_PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
_FENCE = re.compile(r"^[ \t]*```(\w*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:\bprostatexfer|-m ProstateXferLib|prostatexfer_batch\.py\"?)\s+(.*)")


every_page = pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))


def _blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in _FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def _anchors(page: Path) -> set[str]:
    """Headings as GitHub names them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_there_are_pages():
    assert {"README.md", "user-guide.md", "checklist-in-slicer.md"} <= {page.name for page in _PAGES}


@every_page
def test_links_and_images_lead_somewhere(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for match in _LINK.finditer(text):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert not broken


@functools.cache
def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"prostatexfer {command}", allow_abbrev=False)
    for option in ("--json", "--debug"):
        parser.add_argument(option, action="store_true")
    import_module(COMMANDS[command].module).add_arguments(parser)
    return parser


def _problem(words: list[str]) -> str | None:
    """Why the command line does not understand these words."""
    command, *rest = with_command_joined(words)
    if command not in COMMANDS:
        return f"there is no command {command}"
    try:
        _parser(command).parse_args(rest)
    except SystemExit as stop:
        return None if stop.code == 0 else f"{' '.join(words)} is refused"
    return None


def _command_lines(page: Path) -> list[list[str]]:
    """The words after `prostatexfer`, one list for each line of a shell block that calls it."""
    lines = []
    for block in _blocks(page, "sh", "bat", "powershell"):
        for line in block.replace("\\\n", " ").splitlines():
            match = _COMMAND.search(line)
            if match is None or line.lstrip().startswith(("#", "rem ")):
                continue
            words = shlex.split(match[1], comments=True)
            if "prostatexfer_batch.py" in match[0]:
                words = ["batch", *(word for word in words if word != "--")]
            lines.append(words)
    return lines


@every_page
def test_the_command_line_understands_what_shell_blocks_type(page, capsys):
    problems = [problem for words in _command_lines(page) if (problem := _problem(words))]

    assert not problems, capsys.readouterr().err


def test_shell_blocks_are_found_at_all():
    found = {words[0] for words in _command_lines(_ROOT / "docs" / "user-guide.md")}

    assert {"segment", "synthesize", "measure", "study", "batch", "import", "train"} <= found


@every_page
def test_options_named_in_a_sentence_exist(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    unknown = []
    for command, rest in re.findall(r"`prostatexfer ([a-z]+(?: [a-z][a-z-]*)*)([^`\n]*)`", text):
        command = with_command_joined(command.split())[0]
        known = _parser(command)._option_string_actions if command in COMMANDS else {}
        unknown += [f"{command} {word}" for word in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest) if word not in known]
        unknown += [] if command in COMMANDS else [command]

    assert not unknown


def _class(path: str, name: str) -> ast.ClassDef:
    tree = ast.parse((_ROOT / "ProstateXfer" / path).read_text(encoding="utf-8"))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)


def _methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {entry.name: entry for entry in node.body if isinstance(entry, ast.FunctionDef)}


def _fields(node: ast.ClassDef) -> set[str]:
    return {entry.target.id for entry in node.body if isinstance(entry, ast.AnnAssign)}


def _module_scripts(page: Path) -> list[ast.Module]:
    """Python blocks that use the module's logic."""
    return [ast.parse(block) for block in _blocks(page, "python") if "ProstateXferLogic" in block]


@every_page
def test_scripts_call_the_modules_functions_by_the_names_they_have(page):
    logic = _methods(_class("ProstateXfer.py", "ProstateXferLogic"))
    unknown = []
    for script in _module_scripts(page):
        for call in (node for node in ast.walk(script) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in logic:
                arguments = logic[call.func.attr].args
                known = {argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)}
                unknown += [word.arg for word in call.keywords if word.arg not in known]

    assert not unknown


@every_page
def test_scripts_use_results_and_watchers_as_they_are(page):
    results = _fields(_class("ProstateXferSlicer/scene/results.py", "StudyNodes"))
    watcher = _methods(_class("ProstateXferSlicer/study_run.py", "StudyWatcher"))
    unknown = []
    for script in _module_scripts(page):
        for node in ast.walk(script):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nodes":
                unknown += [node.attr] if node.attr not in results else []
            if isinstance(node, ast.ClassDef) and any(
                isinstance(b, ast.Name) and "Watcher" in b.id for b in node.bases
            ):
                unknown += [
                    name
                    for name, method in _methods(node).items()
                    if name not in watcher or len(method.args.args) != len(watcher[name].args.args)
                ]

    assert not unknown


def test_the_user_guide_has_a_script_for_the_module():
    calls = [
        node.func.attr
        for script in _module_scripts(_ROOT / "docs" / "user-guide.md")
        for node in ast.walk(script)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]

    assert {"process", "cancel"} <= set(calls)
