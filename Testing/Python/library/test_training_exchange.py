# SPDX-License-Identifier: Apache-2.0
"""Weights packages: what goes in comes out, what was touched is found, and the history grows from centre to centre."""

import dataclasses
import json
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ProstateXferLib.checkpoints.card import Score
from ProstateXferLib.checkpoints.file_format import file_sha256, read_checkpoint, write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.exchange.container import MODEL, RECORD, SIGNATURE, read_container, write_container
from ProstateXferLib.training.exchange.export import export_package
from ProstateXferLib.training.exchange.record import ExchangeRecord, facts_of
from ProstateXferLib.training.exchange.resume import checkpoint_of, resume_from
from ProstateXferLib.training.exchange.signature import read_key, sign, site_id
from ProstateXferLib.training.exchange.verify import verify_package

KEY = b"sixteen bytes or more of key"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, segmentation_card, random_state):
    """A small model that can be built, with a score that has no value and one stage behind it."""
    scores = (Score("dice", 0.5, "test", 3), Score("precision", float("nan"), "test", 3))
    card = dataclasses.replace(segmentation_card("gland"), scores=scores, history=({"stage": "first", "steps": 2},))
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_checkpoint(folder / "hospital-name.safetensors", card, random_state(gland=2))


@pytest.fixture(scope="module")
def package(checkpoint, tmp_path_factory):
    """It, packed and signed."""
    path = tmp_path_factory.mktemp("package") / "a.pxweights"
    export_package(checkpoint, path, site="Centre A", patients=30, key=KEY)
    return path


def failed(verification):
    """Name of the check that failed, None where all passed."""
    return next((check.name for check in verification.checks if check.passed is False), None)


def repacked(package, path, *, texts=None, model=None, key=None):
    """The package with members replaced, its frame and checksums right again, as one who forges it would."""
    container = read_container(package)
    members = {RECORD: container.read(RECORD), **(texts or {})}
    if key:
        members[SIGNATURE] = sign(members[RECORD], key)
    return write_container(path, members, model or container.copy(MODEL, path.with_suffix(".safetensors")))


def test_what_was_packed_comes_out_with_the_weights_untouched(checkpoint, package, tmp_path):
    verification = resume_from(package, tmp_path / "b.safetensors", key=KEY)
    assert verification.passed
    card, state = read_checkpoint(tmp_path / "b.safetensors")
    before_card, before = read_checkpoint(checkpoint)
    assert before.keys() == state.keys()
    assert all(torch.equal(before[name], state[name]) for name in before)
    assert card.history[:-1] == before_card.history
    assert card.heads == before_card.heads
    assert card.preprocessing == before_card.preprocessing
    assert file_sha256(tmp_path / "b.safetensors") == verification.record.model_sha256


def test_the_record_says_what_must_be_known_and_names_nobody(checkpoint, package):
    record = verify_package(package, key=KEY).record
    assert (record.task, record.architecture, record.patients) == ("segmentation", "mr_dinov3", 30)
    assert record.preprocessing["intensity"]["upper"] == 1000.0
    assert record.scores[0] == {"metric": "dice", "value": 0.5, "data": "test", "cases": 3}
    assert record.history[-1]["start"] == {"sha256": file_sha256(checkpoint)}
    assert record.versions.keys() == {"prostatexfer", "torch", "python"}
    everything = package.read_bytes().lower()
    assert b"centre a" not in everything
    assert b"hospital-name" not in everything


def test_any_unzip_tool_opens_it(package):
    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [RECORD, SIGNATURE, MODEL]
        assert json.loads(archive.read(RECORD))["patients"] == 30


def test_equal_content_makes_equal_files(checkpoint, package, tmp_path):
    export_package(checkpoint, tmp_path / "again.pxweights", site=" centre  A ", patients=30, key=KEY)
    assert (tmp_path / "again.pxweights").read_bytes() == package.read_bytes()


def test_the_history_grows_from_a_over_b_to_c(checkpoint, tmp_path):
    previous = checkpoint
    for site, patients in (("A", 30), ("B", 30), ("C", 19)):
        export_package(previous, tmp_path / f"{site}.pxweights", site=site, patients=patients)
        previous = tmp_path / f"from-{site}.safetensors"
        resume_from(tmp_path / f"{site}.pxweights", previous)
    history = read_checkpoint(previous)[0].history
    assert [entry["stage"] for entry in history] == ["first", "export", "export", "export"]
    assert [entry.get("site") for entry in history[1:]] == [site_id("A"), site_id("B"), site_id("C")]
    assert [entry.get("patients") for entry in history[1:]] == [30, 30, 19]
    # Each package links to the file that the one before it gave.
    assert history[2]["start"]["sha256"] == file_sha256(tmp_path / "from-A.safetensors")
    assert history[3]["start"]["sha256"] == file_sha256(tmp_path / "from-B.safetensors")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), change=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_found(package, tmp_path, share, change):
    data = bytearray(package.read_bytes())
    data[round(share * (len(data) - 1))] ^= change
    altered = tmp_path / "altered.pxweights"
    altered.write_bytes(data)
    assert failed(verify_package(altered)) == "file"


def test_every_single_byte_is_guarded(package, tmp_path):
    """Of a package with a tiny model: frame, record, signature, model, directory."""
    container = read_container(package)
    (tmp_path / "tiny").write_bytes(bytes(range(64)))
    texts = {name: container.read(name) for name in (RECORD, SIGNATURE)}
    data = write_container(tmp_path / "tiny.pxweights", texts, tmp_path / "tiny").read_bytes()
    altered = tmp_path / "altered.pxweights"
    unnoticed = []
    for place in range(len(data)):
        altered.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
        try:
            read_container(altered)
            unnoticed.append(place)
        except ProstateXferError:
            pass
    assert len(data) > 1500
    assert unnoticed == []


@pytest.mark.parametrize("cut", [0, 3, 30, 400, -1, -22, -200])
def test_a_package_that_was_cut_off_is_found(package, tmp_path, cut):
    short = tmp_path / "short.pxweights"
    short.write_bytes(package.read_bytes()[:cut])
    assert failed(verify_package(short)) == "file"


@pytest.mark.parametrize("extra", [b"\0", b"PK\3\4 another archive"])
def test_nothing_can_be_hung_behind_it_or_put_before_it(package, tmp_path, extra):
    longer = tmp_path / "longer.pxweights"
    for data in (package.read_bytes() + extra, extra + package.read_bytes()):
        longer.write_bytes(data)
        assert failed(verify_package(longer)) == "file"


@pytest.mark.filterwarnings("ignore:Duplicate name")  # which is the point
@pytest.mark.parametrize("name", ["../../outside.txt", "/etc/outside.txt", "C:\\outside.txt", "exchange.json", "x"])
def test_a_member_that_would_lie_elsewhere_is_refused_and_nothing_is_written(package, tmp_path, name):
    forged = tmp_path / "inner" / "forged.pxweights"
    forged.parent.mkdir()
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(forged, "w") as new:
        new.writestr(name, b"outside")
        for member in old.namelist():
            new.writestr(member, old.read(member))
    with pytest.raises(ProstateXferError, match="not a whole, unaltered weights package"):
        resume_from(forged, forged.parent / "model.safetensors")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["forged.pxweights"]


def test_a_compressed_archive_is_refused_so_that_nothing_can_expand(package, tmp_path):
    bomb = tmp_path / "bomb.pxweights"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(RECORD, b"0" * 10_000_000)
        archive.writestr(MODEL, b"0" * 10_000_000)
    assert bomb.stat().st_size < 100_000
    assert failed(verify_package(bomb)) == "file"


def test_a_record_that_claims_to_be_huge_is_refused_before_it_is_read(package, tmp_path):
    huge = write_container(tmp_path / "huge.pxweights", {RECORD: b" " * ((1 << 20) + 1)}, read_model(package, tmp_path))
    with pytest.raises(ProstateXferError, match=r"exchange\.json is larger than any that is written"):
        read_container(huge)


def read_model(package, folder):
    return read_container(package).copy(MODEL, folder / "model.safetensors")


def test_the_signature_holds_with_the_key_alone(package):
    assert failed(verify_package(package, key=KEY)) is None
    assert failed(verify_package(package, key=KEY + b"!")) == "signature"
    unchecked = verify_package(package)
    assert unchecked.passed
    assert next(check for check in unchecked.checks if check.name == "signature").passed is None


def test_a_key_asks_for_a_signature(checkpoint, tmp_path):
    export_package(checkpoint, tmp_path / "plain.pxweights", site="A", patients=30)
    assert failed(verify_package(tmp_path / "plain.pxweights")) is None
    assert failed(verify_package(tmp_path / "plain.pxweights", key=KEY)) == "signature"


def test_who_forges_the_record_without_the_key_is_found_by_it(package, tmp_path):
    record = ExchangeRecord.from_json(read_container(package).read(RECORD))
    claims = dataclasses.replace(record, model_sha256="0" * 64)
    signature = read_container(package).read(SIGNATURE)
    texts = {RECORD: claims.to_json(), SIGNATURE: signature}
    forged = repacked(package, tmp_path / "forged.pxweights", texts=texts)
    assert failed(verify_package(forged, key=KEY)) == "signature"
    assert failed(verify_package(forged)) == "model"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"patients": 31}, "card"),
        ({"patients": 0}, "card"),
        ({"site": "0" * 16}, "card"),
        ({"architecture": "dgcf"}, "card"),
        ({"history": []}, "card"),
        ({"scores": []}, "card"),
        ({"preprocessing": None}, "card"),
        ({"model_sha256": "0" * 64}, "model"),
        ({"patients": True}, "record"),
        ({"patients": "30"}, "record"),
    ],
)
def test_a_record_that_contradicts_the_model_is_found_even_without_a_key(package, tmp_path, changes, name):
    record = ExchangeRecord.from_json(read_container(package).read(RECORD))
    texts = {RECORD: dataclasses.replace(record, **changes).to_json()}
    assert failed(verify_package(repacked(package, tmp_path / "forged.pxweights", texts=texts))) == name


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'{"format": "prostatexfer-weights-2"}', b"\xff", b"[" * 100_000, b'{"format": 1}'],
)
def test_a_record_of_another_kind_is_one_sentence(package, tmp_path, text):
    verification = verify_package(repacked(package, tmp_path / "odd.pxweights", texts={RECORD: text}))
    assert failed(verification) == "record"
    with pytest.raises(ProstateXferError):
        verification.require()


def test_a_key_twice_in_the_record_is_refused(package, tmp_path):
    text = read_container(package).read(RECORD).replace(b'"patients": 30', b'"patients": 99,\n "patients": 30')
    assert failed(verify_package(repacked(package, tmp_path / "twice.pxweights", texts={RECORD: text}))) == "record"


def package_of(tmp_path, card, state, *, model=None):
    """A package, signed by nobody, around a model that `write_checkpoint` or the card would not let pass."""
    from ProstateXferLib.training.exchange.record import record_of

    entry = {"stage": "export", "site": "0" * 16, "patients": 1}
    card = dataclasses.replace(card, history=(entry,))
    path = model or write_checkpoint(tmp_path / "model.safetensors", card, state)
    record = record_of(card, site="0" * 16, patients=1, model_sha256=file_sha256(path))
    return write_container(tmp_path / "odd.pxweights", {RECORD: record.to_json()}, path)


def test_weights_that_do_not_fit_their_architecture_are_found(segmentation_card, random_state, tmp_path):
    state = random_state(gland=2)
    state["heads.gland.decode.4.bias"] = torch.zeros(5)
    assert failed(verify_package(package_of(tmp_path, segmentation_card("gland"), state))) == "architecture"


def test_a_nan_among_the_weights_is_found(segmentation_card, random_state, tmp_path, monkeypatch):
    state = random_state(gland=2)
    name = next(iter(state))
    state[name] = state[name].clone()
    state[name].view(-1)[0] = float("nan")
    with monkeypatch.context() as patch:  # our own writer refuses it; another's may not
        patch.setattr(torch, "isfinite", lambda tensor: torch.ones(1, dtype=torch.bool))
        path = package_of(tmp_path, segmentation_card("gland"), state)
    assert failed(verify_package(path)) == "finite"


def test_a_pickle_in_place_of_the_model_is_not_opened(package, tmp_path):
    touched = tmp_path / "touched"

    class Payload:
        def __reduce__(self):
            return (touched.touch, ())

    torch.save(Payload(), tmp_path / "model.safetensors")
    record = ExchangeRecord.from_json(read_container(package).read(RECORD))
    texts = {RECORD: dataclasses.replace(record, model_sha256=file_sha256(tmp_path / "model.safetensors")).to_json()}
    forged = write_container(tmp_path / "forged.pxweights", texts, tmp_path / "model.safetensors")
    assert failed(verify_package(forged)) == "weights"
    assert not touched.exists()


def test_a_package_that_fails_leaves_no_checkpoint(package, tmp_path):
    with pytest.raises(ProstateXferError, match="was not made with this key"):
        resume_from(package, tmp_path / "b.safetensors", key=b"another key of enough bytes")
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_may_start_from_a_package_or_a_checkpoint(checkpoint, package, tmp_path):
    assert checkpoint_of(checkpoint, tmp_path) == checkpoint
    unpacked = checkpoint_of(package, tmp_path / "unpacked")
    assert unpacked.parent == tmp_path / "unpacked"
    assert file_sha256(unpacked) == verify_package(package).record.model_sha256
    written = unpacked.stat().st_mtime_ns
    assert checkpoint_of(package, tmp_path / "unpacked") == unpacked
    assert unpacked.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"output": "a.zip"}, r"must end in \.pxweights"),
        ({"patients": 0}, "trained on 0 patients"),
        ({"site": "  "}, "site's name is empty"),
        ({"output": "nowhere/a.pxweights"}, "does not exist"),
    ],
)
def test_what_cannot_be_packed_is_one_sentence(checkpoint, tmp_path, changes, sentence):
    values = {"output": "a.pxweights", "site": "A", "patients": 30, **changes}
    with pytest.raises(ProstateXferError, match=sentence):
        export_package(checkpoint, tmp_path / values.pop("output"), **values)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_no_package(checkpoint, tmp_path):
    assert failed(verify_package(checkpoint)) == "file"
    assert failed(verify_package(tmp_path / "nowhere.pxweights")) == "file"


def test_a_site_is_known_again_by_its_name_but_without_the_key_nobody_can_guess_it():
    assert site_id("RUNMC") == site_id(" runmc ") != site_id("BMC")
    assert site_id("RUNMC", KEY) not in (site_id("RUNMC"), site_id("RUNMC", KEY + b"!"))


@pytest.mark.parametrize("content", [b"", b"too short", b"   \n" * 100, b"k" * 5000])
def test_a_key_file_that_protects_nothing_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ProstateXferError, match="must hold 16 to 4096 bytes"):
        read_key(tmp_path / "key")


def test_a_line_end_behind_the_key_does_not_matter(tmp_path):
    (tmp_path / "unix").write_bytes(KEY + b"\n")
    (tmp_path / "windows").write_bytes(KEY + b"\r\n")
    assert read_key(tmp_path / "unix") == read_key(tmp_path / "windows") == KEY


def test_the_facts_of_a_card_are_json(segmentation_card):
    facts = facts_of(segmentation_card("gland", "dil"))
    assert json.loads(json.dumps(facts)) == facts
