# SPDX-License-Identifier: Apache-2.0
"""How this library calls the sequences that other data sets spell in their own ways."""

from collections.abc import Mapping

_SPELLINGS = {
    "t2": "T2w",
    "t2w": "T2w",
    "t1": "T1w",
    "t1w": "T1w",
    "adc": "ADC",
    "hbv": "HBV",
    "highb": "HBV",
    "dwi": "DWI",
    "ct": "CT",
    "cbct": "CBCT",
    "mr": "MR",
    "mri": "MR",
}


def sequence_name(name: str, renamed: Mapping[str, str]) -> str:
    """A sequence's name: as the option says, as this library spells it ("T2-W": "T2w"), or as it is."""
    if name in renamed:
        return str(renamed[name])
    return _SPELLINGS.get("".join(sign for sign in name.lower() if sign.isalnum()), name)
