# SPDX-License-Identifier: Apache-2.0
"""Foreign files become checkpoints that say what they are, and give the output that the foreign weights give."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from outcomes.refusal import refusal
from safetensors.torch import save_file

from ProstateXferLib.checkpoints.file_format import read_card, read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.importers import import_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.networks import DGCF, DINOv3
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.pipelines.synthesizer import Synthesizer

IMAGE = torch.linspace(-1, 1, 32 * 48).view(1, 1, 32, 48)


@pytest.fixture
def folder(tmp_path):
    """An empty folder for what is imported; the foreign files lie beside it."""
    out = tmp_path / "out"
    out.mkdir()
    return out


@pytest.fixture
def saved(tmp_path):
    """saved(content) -> a .pth with it."""

    def save(content, name="weights.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def run(network, image=IMAGE):
    with torch.inference_mode():
        if isinstance(network, DINOv3):
            return torch.cat(network.intermediate(image.expand(-1, 3, -1, -1), (0, 3)))
        return network(image)


def import_refusal(source, destination, **hints):
    sentence = refusal(import_checkpoint, source, destination, longest=500, **hints)
    assert list(destination.parent.iterdir()) == []
    return sentence


# Encoders


def test_an_encoder_gives_the_same_tokens_after_the_import(random_network, saved, folder):
    state = random_network("dinov3").state_dict()
    for key in [key for key in state if key.endswith("bias_mask")]:
        state[key] = torch.full_like(state[key], torch.nan)  # as in a file that was saved before its buffer was filled
    source = saved({"model": {f"module.{key}": value for key, value in state.items()}})
    path = import_checkpoint(source, folder / "encoder.safetensors", name="my-vit", licence="by permission")
    checkpoint = load_checkpoint(path)
    assert torch.equal(run(checkpoint.build()), run(DINOv3.from_state_dict(state)))
    card = checkpoint.card
    assert (card.task, card.architecture, card.arguments) == ("encoder", "dinov3", {"eps": 1e-5, "rope_dtype": "fp32"})
    assert (card.name, card.licence) == ("my-vit", "by permission")
    assert "2508.10104" in card.citation
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert card.history == ({"imported_from": "weights.pth", "sha256": digest},)


def test_the_meddinov3_teacher_keeps_its_settings(random_network, saved, folder):
    network = random_network("dinov3", qkv_bias=False, eps=1e-6, rope_dtype=torch.bfloat16)
    teacher = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    teacher["dino_head.mlp.0.weight"] = torch.ones(3)
    path = import_checkpoint(saved({"teacher": teacher}), folder / "med.safetensors")
    assert read_card(path).arguments == {"eps": 1e-6, "rope_dtype": "bf16"}
    assert "MedDINOv3" in read_card(path).citation
    assert torch.equal(run(load_checkpoint(path).build()), run(network))


def test_settings_that_the_file_cannot_tell_are_taken_from_the_user(random_network, saved, folder):
    source = saved(random_network("dinov3").state_dict())
    path = import_checkpoint(source, folder / "vit.safetensors", eps=1e-3, rope_dtype="bf16")
    network = load_checkpoint(path).build()
    assert (network.eps, network.rope_dtype) == (1e-3, torch.bfloat16)


def test_a_foreign_safetensors_file_in_half_precision(random_network, tmp_path, folder):
    state = {key: value.half() for key, value in random_network("dinov3").state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    path = import_checkpoint(tmp_path / "model.safetensors", folder / "vit.safetensors")
    assert all(value.dtype == torch.float32 for value in read_checkpoint(path)[1].values())
    assert torch.equal(run(load_checkpoint(path).build()), run(DINOv3.from_state_dict(state)))


# MedDINOv3 segmentation networks


@pytest.fixture
def segmentation(random_network):
    """As MedDINOv3's trainers save them: no qkv bias, three classes."""
    return random_network("mr_dinov3", heads_of=3, qkv_bias=False, eps=1e-6, rope_dtype=torch.bfloat16)


def plans(**changes):
    high = {"inherits_from": "2d", "patch_size": [896, 640], "spacing": [0.25, 0.35]}
    base = {"patch_size": [320, 256], "spacing": [0.5, 0.5], "normalization_schemes": ["ZScoreNormalization"]}
    return {
        "dataset_name": "Dataset007_Prostate",
        "transpose_forward": [0, 1, 2],
        "configurations": {"2d": base, "2d_896": high},
        **changes,
    }


LABELS = {"background": 0, "prostate": 1, "my lesion": 2}


def nnunet(network, *, plan=None, configuration="2d", labels=LABELS):
    arguments = {"plans": plan or plans(), "configuration": configuration, "dataset_json": {"labels": labels}}
    return {
        "network_weights": network.state_dict(),
        "init_args": arguments,
        "logging": {"ema_fg_dice": [np.float64(0.5)]},
        "trainer_name": "meddinov3_base_primus_multiscale_Trainer",
    }


def test_a_segmentation_network_gives_the_same_logits_after_the_import(segmentation, saved, folder):
    path = import_checkpoint(saved(segmentation.state_dict()), folder / "seg.safetensors")
    checkpoint = load_checkpoint(path)
    assert torch.equal(run(checkpoint.build()), run(segmentation))
    assert checkpoint.card.arguments == {"eps": 1e-6, "rope_dtype": "bf16", "blocks": [0, 1, 2, 3]}
    assert [structure.name for structure in checkpoint.card.structures] == ["Label 1", "Label 2"]
    assert [(head.name, head.values) for head in checkpoint.card.heads] == [("segmentation", (1, 2))]


def test_labels_spacing_and_patch_come_from_the_plans(segmentation, saved, folder):
    card = read_card(import_checkpoint(saved(nnunet(segmentation)), folder / "seg.safetensors"))
    assert [(structure.value, structure.name) for structure in card.structures] == [(1, "Prostate"), (2, "my lesion")]
    assert card.structures[0].type.value == "41216001"  # a name we know brings its SNOMED CT code
    assert card.preprocessing.intensity == IntensityRule("zscore")
    assert card.preprocessing.spacing_yx_mm == (0.5, 0.5)
    assert card.preprocessing.tile_yx == (320, 256)
    assert card.training_data == "Dataset007_Prostate"


def test_a_configuration_inherits_what_it_does_not_say(segmentation, saved, folder):
    source = saved(nnunet(segmentation, configuration="2d_896"))
    preprocessing = read_card(import_checkpoint(source, folder / "seg.safetensors")).preprocessing
    assert (preprocessing.spacing_yx_mm, preprocessing.tile_yx) == ((0.25, 0.35), (896, 640))


def test_what_the_user_says_goes_before_the_plans(segmentation, saved, folder):
    hints = {"structures": ["Prostate", "DIL"], "spacing_yx_mm": (0.3, 0.4), "tile_yx": (64, 96)}
    card = read_card(import_checkpoint(saved(nnunet(segmentation)), folder / "seg.safetensors", **hints))
    assert [structure.name for structure in card.structures] == ["Prostate", "DIL"]
    assert (card.preprocessing.spacing_yx_mm, card.preprocessing.tile_yx) == ((0.3, 0.4), (64, 96))


def test_an_ignore_label_is_no_structure(segmentation, saved, folder):
    source = saved(nnunet(segmentation, labels={**LABELS, "ignore": 3}))
    structures = read_card(import_checkpoint(source, folder / "seg.safetensors")).structures
    assert [structure.name for structure in structures] == ["Prostate", "my lesion"]


def test_named_heads_keep_their_names(random_network, saved, folder):
    network = random_network("mr_dinov3", heads_of={"gland": 2, "dil": 3})
    path = import_checkpoint(saved(network.state_dict()), folder / "seg.safetensors", structures=["Prostate", "a", "b"])
    assert [(head.name, head.values) for head in read_card(path).heads] == [("gland", (1,)), ("dil", (2, 3))]
    logits, expected = run(load_checkpoint(path).build()), run(network)
    assert all(torch.equal(logits[name], expected[name]) for name in ("gland", "dil"))


BASE = plans()["configurations"]["2d"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"plan": plans(configurations={"2d": BASE | {"normalization_schemes": ["CTNormalization"]}})}, "CTNormaliz"),
        ({"plan": plans(transpose_forward=[1, 0, 2])}, "not axial"),
        ({"labels": {"background": 0, "whole": [1, 2], "lesion": [2]}}, "overlapping regions"),
        ({"plan": plans(configurations={"2d": BASE | {"patch_size": [100, 100]}})}, "multiples of 16"),
        ({"plan": plans(configurations={"2d": BASE | {"spacing": ["a", "b"]}})}, "plans in the file are malformed"),
        ({"plan": plans(configurations={"2d": 5})}, "plans in the file are malformed"),
        ({"plan": plans(configurations=5)}, "plans in the file are malformed"),
        ({"labels": 5}, "plans in the file are malformed"),
    ],
)
def test_a_plan_that_cannot_be_reproduced_is_refused(segmentation, saved, folder, changes, told):
    assert told in import_refusal(saved(nnunet(segmentation, **changes)), folder / "seg.safetensors")


def test_configurations_that_inherit_in_a_circle_end(segmentation, saved, folder):
    circle = plans(configurations={"2d": BASE | {"inherits_from": "b"}, "b": {"inherits_from": "2d"}})
    path = import_checkpoint(saved(nnunet(segmentation, plan=circle)), folder / "seg.safetensors")
    assert read_card(path).preprocessing.tile_yx == (320, 256)


# DGCF generators


@pytest.fixture
def generator(random_network):
    return random_network("dgcf", fusion="gated")


@pytest.fixture
def encoder(random_network):
    return random_network("dinov3", seed=5)


@pytest.mark.parametrize(
    ("sequence", "shown", "rule"),
    [("T2w", (0.0, 2.0), IntensityRule("percentile")), ("CBCT", (-1.0, 1.0), IntensityRule("window", -1024, 2000))],
)
@pytest.mark.parametrize("imported", [True, False], ids=["encoder imported before", "encoder as it came"])
def test_a_generator_gives_the_same_slices_after_the_import(
    generator, encoder, saved, tmp_path, folder, sequence, shown, rule, imported
):
    vit = saved(encoder.state_dict(), "vit.pth")
    if imported:
        vit = import_checkpoint(vit, tmp_path / "vit.safetensors", eps=1e-4)
    hints = {"encoder": vit, "sequence": sequence, "blocks": [0, 1, 2, 3]}
    path = import_checkpoint(saved(generator.state_dict()), folder / "dgcf.safetensors", **hints)
    checkpoint = load_checkpoint(path)
    card = checkpoint.card
    assert (card.task, card.inputs, card.hu_range) == ("synthesis", (sequence,), (-1024.0, 2000.0))
    assert card.preprocessing.intensity == rule
    assert (card.preprocessing.resize_yx, card.preprocessing.encoder_range) == ((256, 256), shown)
    assert card.arguments == {"eps": 1e-4 if imported else 1e-5, "rope_dtype": "fp32", "blocks": [0, 1, 2, 3]}
    assert [("imported_from" in entry, "encoder_from" in entry) for entry in card.history] == [(1, 0), (0, 1)]
    known = DINOv3.from_state_dict(encoder.state_dict(), eps=card.arguments["eps"])
    assert torch.equal(run(checkpoint.build()), run(GuidedDGCF(generator, known, encoder_range=shown).eval()))


def test_the_range_shown_to_the_encoder_can_be_chosen(generator, encoder, saved, folder):
    vit = saved(encoder.state_dict(), "vit.pth")
    source = saved(generator.state_dict())
    path = import_checkpoint(source, folder / "x.safetensors", encoder=vit, encoder_range=(-1, 1), resize_yx=(64, 64))
    assert read_card(path).preprocessing.encoder_range == (-1.0, 1.0)
    assert read_card(path).preprocessing.resize_yx == (64, 64)


def test_a_generator_alone_is_stored_and_the_synthesizer_says_what_it_lacks(generator, saved, folder):
    path = import_checkpoint(saved(generator.state_dict()), folder / "dgcf.safetensors")
    assert isinstance(load_checkpoint(path).build(), DGCF)
    with pytest.raises(ProstateXferError, match=r"without the DINOv3 encoder it needs: import it again with --encoder"):
        _ = Synthesizer(path, device="cpu").network


def test_an_encoder_that_does_not_fit_is_refused(generator, segmentation, random_network, saved, tmp_path, folder):
    source, target = saved(generator.state_dict()), folder / "dgcf.safetensors"
    wide = saved(random_network("dinov3", width=128).state_dict(), "wide.pth")
    assert "width 64, the encoder given has width 128" in import_refusal(source, target, encoder=wide)
    shallow = saved(random_network("dinov3", depth=2).state_dict(), "shallow.pth")
    assert "cannot be tapped" in import_refusal(source, target, encoder=shallow)
    assert "There is no file" in import_refusal(source, target, encoder=tmp_path / "none.pth")
    assert "not a DINOv3" in import_refusal(source, target, encoder=source)
    whole = import_checkpoint(saved(segmentation.state_dict(), "seg.pth"), tmp_path / "seg.safetensors")
    assert "is a segmentation model: give the DINOv3 encoder" in import_refusal(source, target, encoder=whole)


def test_the_fusion_that_never_worked_is_refused(generator, saved, folder):
    state = {key.replace("gate.0", "q_proj"): value for key, value in generator.state_dict().items()}
    assert "'attn'" in import_refusal(saved(state), folder / "dgcf.safetensors")


# All kinds


@pytest.mark.parametrize(
    ("kind", "hints", "told"),
    [
        ("dinov3", {"structures": ["Prostate"]}, "'structures' means nothing for a DINOv3 encoder"),
        ("dinov3", {"colour": 1}, "the hints are citation, eps, licence, name, rope_dtype, title, training_data"),
        ("dinov3", {"eps": 0}, "eps must be a small number above zero"),
        ("dinov3", {"eps": "small"}, "eps must be a small number above zero"),
        ("dinov3", {"rope_dtype": "fp8"}, "rope_dtype must be 'fp32' or 'bf16'"),
        ("mr_dinov3", {"encoder": "vit.pth"}, "'encoder' means nothing for a MedDINOv3 segmentation network"),
        ("mr_dinov3", {"structures": ["Prostate"]}, "2 classes beside the background, but 1 names were given"),
        ("mr_dinov3", {"structures": ["Prostate", "Prostate"]}, "two structures have the same name"),
        ("mr_dinov3", {"spacing_yx_mm": (0.5,)}, "spacing_yx_mm must be 2 numbers"),
        ("mr_dinov3", {"spacing_yx_mm": (0.5, -1)}, "spacing_yx_mm must be two positive numbers"),
        ("mr_dinov3", {"tile_yx": (100, 100)}, "tile_yx must be multiples of 16"),
        ("mr_dinov3", {"blocks": ["a"]}, "blocks must be some numbers"),
        ("mr_dinov3", {"blocks": [0, 1, 2, 9]}, "cannot be tapped"),
        ("mr_dinov3", {"blocks": [1, 3]}, "takes tokens of width 256"),
        ("dgcf", {"sequence": "ADC"}, "DGCF translates T2w or CBCT, not 'ADC'"),
        ("dgcf", {"encoder_range": (1, 0)}, "encoder_range must increase"),
        ("dgcf", {"encoder_range": 3}, "encoder_range must be 2 numbers"),
        ("dgcf", {"tile_yx": (64, 64)}, "'tile_yx' means nothing for a DGCF generator"),
    ],
)
def test_a_hint_that_makes_no_sense_is_refused(random_network, saved, folder, kind, hints, told):
    source = saved(random_network(kind).state_dict())
    assert told in import_refusal(source, folder / "out.safetensors", **hints)


def test_weights_of_no_known_kind_are_refused_by_their_first_key(saved, folder):
    told = import_refusal(saved({"conv1.weight": torch.ones(3)}), folder / "out.safetensors")
    assert "'weights.pth' is no checkpoint that ProstateXfer knows (its first key is 'conv1.weight')" in told
    assert "(empty)" in import_refusal(saved({}), folder / "out.safetensors")
    assert "no checkpoint that ProstateXfer knows" in import_refusal(saved({1: 2, None: 3}), folder / "out.safetensors")


@pytest.mark.parametrize("kind", ["dinov3", "mr_dinov3", "dgcf"])
def test_incomplete_and_unfit_weights_are_refused_by_key(random_network, saved, folder, kind):
    state = random_network(kind).state_dict()
    last = list(state)[-1]
    short = {key: value for key, value in state.items() if key != last}
    assert f"'{last}'" in import_refusal(saved(short), folder / "out.safetensors")
    assert f"'{last}' holds a str" in import_refusal(saved({**state, last: "x"}), folder / "out.safetensors")


@pytest.mark.parametrize("kind", ["dinov3", "mr_dinov3", "dgcf"])
def test_weights_that_are_no_numbers_are_refused_by_key(random_network, saved, folder, kind):
    state = random_network(kind).state_dict()
    key = next(key for key in state if key.endswith("weight"))
    state[key].flatten()[3] = torch.nan
    told = import_refusal(saved(state), folder / "out.safetensors")
    assert key in told and "is NaN or infinite: nothing was written" in told


def test_a_checkpoint_of_ours_is_not_imported_again(random_network, saved, tmp_path, folder):
    ours = import_checkpoint(saved(random_network("dinov3").state_dict()), tmp_path / "ours.safetensors")
    assert "is a ProstateXfer checkpoint already" in import_refusal(ours, folder / "out.safetensors")


def test_a_destination_that_cannot_be_written_is_refused(random_network, saved, folder):
    source = saved(random_network("dinov3").state_dict())
    assert "must end in .safetensors" in import_refusal(source, folder / "out.pth")
    with pytest.raises(ProstateXferError, match="does not exist"):
        import_checkpoint(source, folder / "missing" / "out.safetensors")
    assert list(folder.iterdir()) == []


def test_a_network_that_does_not_fit_its_card_is_refused_when_it_is_built(random_network, saved, folder):
    network = random_network("mr_dinov3", heads_of={"gland": 2})
    path = import_checkpoint(saved(network.state_dict()), folder / "a.safetensors")
    card = read_card(path)
    write_checkpoint(path, replace(card, heads=(replace(card.heads[0], name="dil"),)), network.state_dict())
    with pytest.raises(ProstateXferError, match="head 'dil' has 2 classes, the weights have no such head"):
        load_checkpoint(path).build()


def test_a_stray_weight_in_a_dgcf_checkpoint_is_refused_when_it_is_built(generator, saved, folder):
    path = import_checkpoint(saved(generator.state_dict()), folder / "a.safetensors")
    card, weights = read_checkpoint(path)
    write_checkpoint(path, card, weights | {"stray.weight": torch.ones(1)})
    with pytest.raises(ProstateXferError, match=r"Key 'stray\.weight' of model 'dgcf-mr-to-ct' is no part of a DGCF"):
        load_checkpoint(path).build()
