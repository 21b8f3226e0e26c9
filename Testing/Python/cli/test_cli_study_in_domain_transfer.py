# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study in-domain-transfer` and `prostatexfer federate ...`: what is planned, and what is refused.

Whole runs: Testing/Python/library/test_studies_in_domain_transfer_smoke.py.
"""

import json

import pytest

from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.training.exchange.export import export_package

pytest.importorskip("yaml")

TWO = ("--site", "A=cases:a", "--site", "B=cases:b")


def study(*words):
    return main(["study", "in-domain-transfer", *map(str, words)])


def test_a_dry_run_lists_every_training_and_writes_nothing(tmp_path, capsys):
    assert study(*TWO, "--site", "C=cases:c", "-o", tmp_path / "study", "--dry-run") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:4] == ["routes/A", "routes/B", "routes/C", "routes/A-B"]
    assert told[-1] == "16 trainings of 5 folds each"
    assert study(*TWO, "-o", tmp_path / "study", "--dry-run", "--grid", "--folds", 3, "--json") == 0
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (len(event["planned"]), event["folds"]) == (5 + 27, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((), 2, "the following arguments are required: --site"),
        (("--site", "A"), 2, "--site takes NAME=LAYOUT:PATH, each name once, not 'A'"),
        (("--site", "A=cases"), 2, "--site takes NAME=LAYOUT:PATH"),
        ((*TWO, "--site", "A=cases:c"), 2, "each name once"),
        ((*TWO, "--site-option", "A.site"), 2, "--site-option takes NAME.KEY=VALUE"),
        ((*TWO, "--site-option", "C.site=BMC"), 2, "names 'C', which is no --site"),
        (("--site", "A=cases:a"), 1, "Transfer needs two sites or more"),
        ((*TWO, "--folds", "1"), 1, "leave nothing to validate on"),
        ((*TWO, "--encoder", "vgg16"), 1, "is no network of the study"),
        ((*TWO, "--set", "stages.target.sped=1"), 1, "sped"),
        ((*TWO,), 1, "There is no data folder 'a'"),
        (("--site", "A=unheard-of:a", "--site", "B=cases:b"), 1, "The data layout 'unheard-of' is none of"),
        ((*TWO, "--site-option", "A.sight=BMC"), 1, "The layout 'cases' has no option 'sight'"),
    ],
)
def test_a_study_that_cannot_be_run_is_one_sentence_before_any_training(
    tmp_path, monkeypatch, capsys, words, code, sentence
):
    monkeypatch.chdir(tmp_path)
    assert study(*words, "-o", "study", "--device", "cpu") == code
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("prostatexfer: ")
    assert sentence in told
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_packages_are_averaged_by_patients(tmp_path, capsys, segmentation_card, random_state):
    packages = []
    for site, seed, patients in (("A", 1, 30), ("B", 2, 10)):
        model = write_checkpoint(tmp_path / f"{site}.safetensors", segmentation_card("gland"), random_state(seed))
        packages.append(tmp_path / f"{site}.pxweights")
        export_package(model, packages[-1], site=site, patients=patients)
    assert main(["federate", "average", *map(str, packages), "-o", str(tmp_path / "average.safetensors")]) == 0
    told = capsys.readouterr().out
    assert "30 patients, weight 0.750" in told
    state = read_checkpoint(tmp_path / "average.safetensors")[1]
    first, second = (read_checkpoint(tmp_path / f"{site}.safetensors")[1] for site in "AB")
    name = next(name for name in state if not first[name].equal(second[name]))
    assert state[name].allclose(0.75 * first[name] + 0.25 * second[name], atol=1e-6)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("average", "a.pxweights", "-o", "x.safetensors"), 1),
        (("average", "a.pxweights", "b.pxweights", "-o", "x.safetensors", "--batch-norm", "never"), 2),
        (("rounds", "in_domain_transfer/imagenet", *TWO, "-o", "x", "--start", "no.safetensors", "--rounds", "1"), 1),
        (("rounds", "in_domain_transfer/imagenet", *TWO, "-o", "x", "--start", "no.safetensors", "--rounds", "0"), 1),
        (("server",), 2),
    ],
)
def test_averaging_that_cannot_be_done_is_one_sentence(tmp_path, monkeypatch, capsys, words, code):
    monkeypatch.chdir(tmp_path)
    assert main(["federate", *words]) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith("prostatexfer: ")
    assert list(tmp_path.iterdir()) == []
