# SPDX-License-Identifier: Apache-2.0
"""Where data sets lie, as training/datasets/data_folder.py finds out."""

from ProstateXferLib.training.datasets.data_folder import data_root


def test_the_data_folder_is_the_one_given_or_that_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PROSTATEXFER_DATA", str(tmp_path / "environment"))
    assert data_root(None) == tmp_path / "environment"
    assert data_root(tmp_path) == tmp_path
    monkeypatch.delenv("PROSTATEXFER_DATA")
    assert str(data_root(None)) == "."
