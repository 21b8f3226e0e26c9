# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer models`: list, show, fetch and check, on a models folder made up for the test."""

import functools
import hashlib
import http.server
import json
import threading

import pytest
import torch
from model_files.registry import register
from nnunet_results.folders import write_folder
from safetensors.torch import save_file

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing, Score
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.pipelines.ensemble import make_ensemble

NNUNET = "nnUNet_results/Dataset007_Test/nnUNetTrainer__nnUNetPlans__3d_fullres"

CARD = ModelCard(
    name="gland",
    task="segmentation",
    architecture="mr_dinov3",
    title="Prostate and DIL on T2w",
    preprocessing=Preprocessing(IntensityRule("zscore")),
    structures=(PROSTATE, DIL),
    heads=(Head("segmentation", (1, 2)),),
    training_data="12 cases",
    licence="Apache-2.0",
    scores=(Score("Dice (prostate)", 0.87, "cases never seen", 5),),
)


@pytest.fixture
def shipped(shipped_folder, tmp_path, monkeypatch):
    """The shipped models folder with one model, in its registry; the user's own is "own" in the working folder."""
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(tmp_path / "own"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    path = write_checkpoint(shipped_folder / "gland.safetensors", CARD, {"a": torch.ones(2)})
    register(shipped_folder, name="gland", title=CARD.title, file=path.name, sha256=sha256(path))
    return shipped_folder


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def address(tmp_path):
    """Serves the folder `web` on this machine."""
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Not on the tests' stderr."""

    handler = functools.partial(Quiet, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_list_says_what_is_here_and_what_is_not(shipped, tmp_path, capsys):
    register(
        shipped,
        {"name": "gland", "title": "the gland", "file": "gland.safetensors", "sha256": "0"},
        {"name": "large", "title": "a large one", "file": "l.safetensors", "sha256": "0", "url": "https://x.org/l"},
        {"name": "dinov3", "title": "from Meta", "task": "encoder", "obtain": "ask Meta"},
    )
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert [line.split()[:4] for line in told.splitlines()[:3]] == [
        ["gland", "segmentation", "here", "the"],
        ["large", "segmentation", "to", "fetch"],
        ["dinov3", "encoder", "to", "import"],
    ]
    assert str(shipped) in told and str(tmp_path / "own") in told


def test_the_list_as_json_holds_every_field(shipped, capsys):
    assert main(["models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["event"] == "result"
    assert [(model["name"], model["state"], model["file"]) for model in told["models"]] == [
        ("gland", "here", "gland.safetensors")
    ]


def test_a_card_for_people(shipped, capsys):
    assert main(["models", "gland"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("gland: Prostate and DIL on T2w\n  Research use only; not a medical device")
    for line in (
        f"file           {shipped / 'gland.safetensors'}",
        "structures     1 Prostate, 2 DIL",
        "training data  12 cases",
        "licence        Apache-2.0",
        "score          Dice (prostate), cases never seen (n=5): 0.87",
    ):
        assert line in told


@pytest.mark.parametrize("name", ["gland", "Resources/Models/gland.safetensors"])
def test_a_card_for_programs(shipped, capsys, name):
    assert main(["models", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["card"] == json.loads(CARD.to_json())
    assert told["sha256"] == sha256(shipped / "gland.safetensors")


def test_a_whole_file_is_validated(shipped, capsys):
    assert main(["models", "gland", "--validate"]) == 0
    assert "The file is complete and unaltered." in capsys.readouterr().out


def test_an_altered_file_is_found_out(shipped, capsys):
    path = shipped / "gland.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["models", "gland"]) == 0  # to show the card the weights are not read
    assert main(["models", "gland", "--validate"]) == 1
    assert "'gland.safetensors' was altered after it was written" in capsys.readouterr().err


def test_another_file_than_the_registered_one_is_found_out(shipped, capsys):
    write_checkpoint(shipped / "gland.safetensors", CARD, {"a": torch.zeros(2)})
    assert main(["models", "gland", "--validate"]) == 1
    assert "the registry expects" in capsys.readouterr().err


def test_a_model_is_fetched_shown_and_not_fetched_again(shipped, address, tmp_path, capsys):
    path = write_checkpoint(tmp_path / "web" / "new.safetensors", CARD, {"a": torch.ones(3)})
    register(shipped, {"name": "new", "file": path.name, "sha256": sha256(path), "url": f"{address}/{path.name}"})
    assert main(["models", "new", "--fetch", "--validate", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["event"] for event in events[:-1]} == {"progress"} and events[-2]["fraction"] == 1
    assert events[-1]["path"] == str(tmp_path / "own" / "new.safetensors")
    path.unlink()
    assert main(["models", "new", "--fetch"]) == 0
    assert "Prostate and DIL" in capsys.readouterr().out


def test_a_fetch_that_fails_leaves_nothing(shipped, address, tmp_path, capsys):
    register(shipped, {"name": "new", "file": "new.safetensors", "sha256": "0", "url": f"{address}/nothing"})
    assert main(["models", "new", "--fetch"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("prostatexfer: 'new' could not be fetched from http://127.0.0.1") and told.count("\n") == 1
    assert list((tmp_path / "own").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["glans"], "There is no model named 'glans': choose one of gland or give a file."),
        (["glans", "--fetch"], "There is no model named 'glans' to fetch: list them with prostatexfer models"),
        (["x.safetensors"], "There is no checkpoint 'x.safetensors': check the path"),
        (["web.txt"], "'web.txt' is not a complete safetensors file"),
    ],
)
def test_what_is_not_there_is_one_sentence_and_exit_code_1(shipped, tmp_path, capsys, words, told):
    (tmp_path / "web.txt").write_text("a letter", encoding="utf-8")
    assert main(["models", *words]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"prostatexfer: {told}") and err.count("\n") == 1


def test_a_model_that_must_be_imported_says_how(shipped, capsys):
    register(shipped, {"name": "dinov3", "obtain": "ask Meta, then: prostatexfer import dinov3.pth OUT.safetensors"})
    for words in (["dinov3"], ["dinov3", "--fetch"]):
        assert main(["models", *words]) == 1
        assert "ask Meta, then: prostatexfer import dinov3.pth OUT.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--fetch"], ["--validate"], ["a", "b"]])
def test_wrong_use_is_exit_code_2(shipped, words):
    assert main(["models", *words]) == 2


def test_a_malformed_registry_is_named(shipped, capsys):
    (shipped / "registry.json").write_text("{", encoding="utf-8")
    assert main(["models"]) == 1
    assert f"The model registry '{shipped / 'registry.json'}' is malformed" in capsys.readouterr().err


def rows(capsys, *words):
    """name -> its entry in the list."""
    assert main(["models", "--json", *words]) == 0
    return {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}


@pytest.fixture
def own(shipped, tmp_path, threshold_state, segmentation_card):
    """The user's own folder: two files, the ensemble of both, and an nnU-Net folder as nnU-Net lays it out."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name, limit in (("dark", 0.2), ("bright", 0.6)):
        card = segmentation_card("gland", name=name, title=f"a {name} one")
        write_checkpoint(folder / f"{name}.safetensors", card, threshold_state(gland=(limit,)))
    members = [folder / "dark.safetensors", folder / "bright.safetensors"]
    make_ensemble(folder / "both.safetensors", members, (3, 1), average="logit")
    write_folder(folder / NNUNET)
    return folder


def test_loose_files_ensembles_and_nnunet_folders_are_listed_behind_the_registry(own, capsys):
    listed = rows(capsys)
    assert list(listed) == ["gland", "both", "bright", "dark", NNUNET]
    assert {model["state"] for model in listed.values()} == {"here"}
    assert listed["dark"]["title"] == "a dark one" and listed["dark"]["path"] == str(own / "dark.safetensors")
    assert listed[NNUNET]["title"] == "nnU-Net 3d_fullres of Dataset007_Test"
    assert listed[NNUNET]["path"] == str(own / NNUNET)
    weights = {member["name"]: (member["weight"], member["path"]) for member in listed["both"]["members"]}
    assert weights == {
        "dark": (0.75, str(own / "dark.safetensors")),
        "bright": (0.25, str(own / "bright.safetensors")),
    }
    for name in listed:
        assert main(["models", name]) == 0


def test_a_person_sees_weights_and_members(own, capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("both "))
    assert lines[place].endswith("2 models, averaged by logit")
    assert [line.split() for line in lines[place + 1 : place + 3]] == [
        ["member", "0.750", "dark:", str(own / "dark.safetensors")],
        ["member", "0.250", "bright:", str(own / "bright.safetensors")],
    ]
    assert main(["models", "both"]) == 0
    card = capsys.readouterr().out
    assert "average        logit" in card and f"member         0.750  dark: {own / 'dark.safetensors'}" in card


def test_a_member_that_is_missing_is_told_and_the_others_are_found(own, capsys):
    (own / "dark.safetensors").unlink()
    both = rows(capsys)["both"]
    assert both["state"] == "incomplete"
    assert [member["path"] for member in both["members"]] == [None, str(own / "bright.safetensors")]
    assert "'dark'" in both["members"][0]["reason"] and "is not on this machine" in both["members"][0]["reason"]
    assert main(["models", "both"]) == 0  # the card can be read without them
    assert "is not on this machine" in capsys.readouterr().out
    assert main(["models", "both", "--validate"]) == 1
    assert "The member 'dark'" in capsys.readouterr().err


def test_an_ensemble_is_validated_with_its_members(own, capsys):
    assert main(["models", "both", "--validate"]) == 0
    assert "The file and its 2 members are complete and unaltered." in capsys.readouterr().out
    path = own / "bright.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["models", "both", "--validate"]) == 1
    assert "'bright' of the ensemble 'both' is not the file it was chosen with" in capsys.readouterr().err


def test_a_damaged_one_is_listed_with_the_reason_and_another_projects_is_not(own, capsys):
    (own / NNUNET / "dataset.json").unlink()
    (own / "dark.safetensors").write_bytes(b"cut")
    save_file({"a": torch.ones(1)}, own / "foreign.safetensors")
    listed = rows(capsys)
    assert (listed[NNUNET]["state"], listed["dark"]["state"]) == ("damaged", "damaged")
    assert "dataset.json is missing" in listed[NNUNET]["reason"] and "cut off" in listed["dark"]["reason"]
    assert "foreign" not in listed


def test_a_folder_can_be_searched_first(own, tmp_path, capsys):
    folder = tmp_path / "chosen"
    write_folder(folder / "mine")
    assert "mine" not in rows(capsys)
    assert rows(capsys, "--models-folder", str(folder))["mine"]["path"] == str(folder / "mine")
    assert main(["models", "mine", "--models-folder", str(folder)]) == 0
    assert main(["models", "--models-folder", str(tmp_path / "typo")]) == 2
    assert "typo' does not exist" in capsys.readouterr().err


def test_a_registered_ensemble_shows_its_members_and_a_registered_damaged_file_its_reason(own, capsys):
    register(
        own,
        {"name": "best", "file": "both.safetensors", "sha256": sha256(own / "both.safetensors")},
        {"name": "cut", "file": "bright.safetensors", "sha256": "0"},
    )
    assert [member["name"] for member in rows(capsys)["best"]["members"]] == ["dark", "bright"]
    (own / "bright.safetensors").write_bytes(b"cut")
    listed = rows(capsys)
    assert (listed["best"]["state"], listed["cut"]["state"]) == ("incomplete", "damaged")
    assert "cut off" in listed["cut"]["reason"] and "both" not in listed
