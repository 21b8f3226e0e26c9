# SPDX-License-Identifier: Apache-2.0
"""What the user reads when a child has failed."""

import pytest

from ProstateXferSlicer.work.failures import failureSentence


def test_the_childs_own_words_come_first():
    assert failureSentence(1, "The image is empty.", ["prostatexfer: The image is empty."]) == "The image is empty."


@pytest.mark.parametrize("code", [-9, 137, 0xC0000017, 0xC0000017 - 2**32])
def test_a_child_that_was_killed_points_to_the_memory(code):
    sentence = failureSentence(code, "", [])
    assert "signal 9" in sentence
    assert "memory" in sentence


def test_a_crash_below_the_launcher_is_one_although_its_exit_code_is_1():
    told = failureSentence(1, "", ["error: [/opt/Slicer/bin/python-real] exit abnormally - Report the problem."])
    assert "crashed" in told
    assert "memory" in told


@pytest.mark.parametrize("code", [-11, 139])
def test_a_crash_names_its_signal(code):
    assert "crashed (signal 11, SIGSEGV)" in failureSentence(code, "", [])


def test_a_crash_on_windows_names_its_code():
    assert "crashed (code 0xC0000005)" in failureSentence(0xC0000005 - 2**32, "", [])


@pytest.mark.parametrize("error", ["", "Cancelled."])
def test_a_stop_by_somebody_else_is_not_called_cancelled(error):
    assert "stopped from outside" in failureSentence(130, error, [])


def test_an_end_without_a_word_shows_the_last_line_of_the_log():
    told = failureSentence(1, "", ["Traceback", "ModuleNotFoundError: No module named 'ProstateXferLib'"])
    assert "exit code 1" in told
    assert told.endswith("No module named 'ProstateXferLib'")


def test_success_without_a_result_is_a_failure():
    assert "without a result" in failureSentence(0, "", [])
