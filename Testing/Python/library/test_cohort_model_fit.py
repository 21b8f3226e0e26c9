# SPDX-License-Identifier: Apache-2.0
"""`why_not`: which models a study can run by the images they take, and what to do with the others."""

import argparse
import dataclasses
import shlex

import pytest
from nnunet_results.folders import arch_kwargs

from ProstateXferLib.checkpoints.architectures import complete_arguments
from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.ensemble_card import EnsembleMember, merged_card
from ProstateXferLib.cli import segment
from ProstateXferLib.cohort.inputs import StudyInputs, input_of_sequence
from ProstateXferLib.cohort.model_fit import structures_found, why_not
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE

OF_MR = (Task.PROSTATE, Task.DIL)


def dense_card(*inputs, name="dense"):
    """A U-Net that takes these sequences and finds gland and lesion."""
    return ModelCard(
        name=name,
        task="segmentation",
        architecture="plain_conv_unet",
        arguments=complete_arguments("plain_conv_unet", arch_kwargs(3), channels=len(inputs), classes=3),
        inputs=inputs,
        preprocessing=Preprocessing(IntensityRule("zscore")),
        structures=(PROSTATE, DIL),
        heads=(Head("segmentation", (PROSTATE.value, DIL.value)),),
    )


@pytest.mark.parametrize(
    ("spellings", "field"),
    [
        (("T2w", "T2", "T2W", "t2-w", "T2-weighted", "axial T2", "T2 tra"), "t2w"),
        (("ADC", "adc", "ADC map", "MR_ADC"), "adc"),
        (("HBV", "hbv", "high-b", "High b", "DWI", "b1400", "b=2000", "DWI b1500"), "high_b"),
        (("CBCT", "cone-beam CT"), "cbct"),
        (("T1", "CT", "noNorm", "zscore", "", "T2*", "T2w coronal", "T2 sag", "DCE", "b50", "b800", "b1000"), None),
    ],
)
def test_only_names_that_mean_one_image_of_an_examination_are_taken_for_it(spellings, field):
    assert {spelling: input_of_sequence(spelling) for spelling in spellings} == dict.fromkeys(spellings, field)
    assert field is None or hasattr(StudyInputs(), field)


@pytest.mark.parametrize("task", OF_MR)
@pytest.mark.parametrize("inputs", [("T2W", "ADC", "HBV"), ("T2", "ADC"), ("t2w", "b1400"), ("T2w",), ("ADC",)])
def test_a_model_whose_sequences_a_study_has_can_be_chosen(inputs, task):
    assert why_not(dense_card(*inputs), task) is None


def segment_words(sentence):
    """The command in a sentence, as the command line understands it."""
    command = sentence.partition("run it with prostatexfer ")[2].partition(", or ")[0]
    words = shlex.split(command)
    assert words[0] == "segment"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    segment.add_arguments(parser)
    return parser.parse_args(["first.nii.gz", "-o", "out.seg.nrrd", *words[1:]])


@pytest.mark.parametrize("inputs", [("T2w", "noNorm"), ("zscore", "ADC map"), ("T2 tra", "DCE early", "DCE late")])
def test_a_channel_that_no_image_is_known_for_is_named_with_the_command_that_runs_it(inputs):
    sentence = why_not(dense_card(*inputs), Task.DIL)
    unknown = next(name for name in inputs if input_of_sequence(name) is None)
    assert f"takes '{unknown}', which none of a study's images is (T2w, ADC, high-b, CBCT)" in sentence
    assert "import it again with --inputs" in sentence and sentence.endswith("choose another model for DIL.")
    assert [name for name, _ in segment_words(sentence).also] == list(inputs[1:])


def test_a_model_whose_first_sequence_is_not_the_t2w_would_give_another_grid_and_is_refused():
    sentence = why_not(dense_card("ADC", "T2w"), Task.PROSTATE)
    assert "takes ADC first, and its result would lie on the grid of the ADC map" in sentence
    assert [name for name, _ in segment_words(sentence).also] == ["T2w"]


def test_two_channels_of_one_image_are_refused_but_not_two_spellings_of_an_ensembles_members():
    sentence = why_not(dense_card("T2w", "HBV", "DWI"), Task.DIL)
    assert "takes HBV and DWI, and a study has one high-b image" in sentence
    cards = [dense_card("T2w", "HBV", name="a"), dense_card("T2w", "DWI", name="b")]
    members = [EnsembleMember(card.name, sign * 64, 0.5, card.name) for card, sign in zip(cards, "12", strict=True)]
    ensemble = merged_card(cards, members, name="both")
    assert ensemble.inputs == ("T2w", "HBV", "DWI")
    assert why_not(ensemble, Task.DIL) is None


def test_a_network_of_one_channel_cannot_take_what_its_card_names(segmentation_card, synthesis_card):
    two = segmentation_card("gland", name="two", inputs=("T2w", "ADC"))
    assert "names 2 sequences (T2w, ADC), and a network of the architecture 'mr_dinov3' takes one" in why_not(
        two, Task.PROSTATE
    )
    synthesis = dataclasses.replace(synthesis_card("T2w"), inputs=("T2w", "ADC"))
    assert "'dgcf' takes one" in why_not(synthesis, Task.CT_FROM_MR)


@pytest.mark.parametrize("inputs", [("CBCT",), ("T2w", "CBCT")])
def test_a_cbct_is_for_synthetic_cts_alone(inputs, synthesis_card):
    assert "cannot do Prostate" in why_not(dense_card(*inputs), Task.PROSTATE)
    assert "takes CBCT and cannot do CT from MR" in why_not(synthesis_card("CBCT"), Task.CT_FROM_MR)
    assert why_not(synthesis_card("CBCT"), Task.CT_FROM_CBCT) is None


def test_what_a_card_describes_without_a_head_is_not_found(segmentation_card):
    card = dataclasses.replace(segmentation_card("gland"), structures=(PROSTATE, DIL))
    assert structures_found(card) == (PROSTATE,)
    assert "finds no DIL (Prostate)" in why_not(card, Task.DIL)
