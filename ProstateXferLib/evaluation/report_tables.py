# SPDX-License-Identifier: Apache-2.0
"""The tables of the report of segmentations, in the layout of the papers: mean and median, with the count of each."""

from collections.abc import Iterator, Sequence

from ProstateXferLib.evaluation.agreement import VolumeAgreement
from ProstateXferLib.evaluation.catalog import metric_of, nsd_key
from ProstateXferLib.evaluation.cell_text import confidence_text, mean_median_text, number_text, p_text, used_text
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.method_comparison import MethodTest
from ProstateXferLib.evaluation.summaries import Summaries
from ProstateXferLib.reports.page import Table


def segmentation_tables(
    evaluation: Evaluation, summaries: Summaries, agreements: Sequence[VolumeAgreement]
) -> list[Table]:
    """Overlap, surfaces, volume and position, over all cases."""
    return [
        _overlap_table(evaluation, summaries),
        _surface_table(evaluation, summaries),
        _size_table(evaluation, summaries, agreements),
    ]


def synthesis_table(evaluation: Evaluation, summaries: Summaries) -> Table:
    """The scores in the body and in each tissue class."""
    keys = ("mae", "me", "psnr", "ssim", "ms_ssim")
    metrics = [metric_of(key) for key in keys]
    rows = []
    for structure, method in _lines(evaluation):
        found = [summaries.of(method, structure, key) for key in keys]
        if any(found):
            cells = [mean_median_text(s, m.decimals) for s, m in zip(found, metrics, strict=True)]
            rows.append([structure, method, *cells, used_text(found[0])])
    return _table(
        "Synthetic CT by tissue",
        ["Where", "Method", *(m.title for m in metrics), "Used"],
        ["", "", *(m.unit for m in metrics), "MAE"],
        rows,
        "Mean (median) over the cases, and how many of how many cases had a value. Tissue classes are those of the "
        "true CT inside the body: air below −250 HU (gas), soft tissue −250 to 250 HU, bone above 250 HU, each with "
        "PSNR and similarities in its own range as in DGCF's evaluation.",
        evaluation,
    )


def extra_table(evaluation: Evaluation, summaries: Summaries) -> Table | None:
    """Dice on organs and water-equivalent depth, where files for them were given."""
    rows = []
    for row in summaries.rows:
        if row.metric.key == "organ_dice" or row.metric.key.startswith("water_depth_"):
            s, decimals = row.summary, row.metric.decimals
            unit = f", {row.metric.unit}" if row.metric.unit else ""
            cells = [mean_median_text(s, decimals), confidence_text(s, decimals), used_text(s)]
            rows.append([row.structure, row.method, f"{row.metric.title}{unit}", *cells])
    if not rows:
        return None
    header = ["Where", "Method", "Metric", "Mean (median)", "95 % CI of the mean", "Used"]
    return _table("Organs and dose proxy", header, (), rows, "", evaluation)


def comparison_table(tests: Sequence[MethodTest]) -> Table:
    """The paired tests of two methods."""
    rows = [
        [
            test.structure,
            test.metric.title + (f", {test.metric.unit}" if test.metric.unit else ""),
            number_text(test.comparison.median_difference, test.metric.decimals + 1, sign=True),
            _favours(test),
            p_text(test.comparison.p),
            p_text(test.comparison.p_adjusted),
            f"{test.comparison.n_used} of {test.comparison.n_total}",
        ]
        for test in tests
    ]
    first, second = tests[0].comparison.first, tests[0].comparison.second
    return Table(
        f"{second} against {first}",
        ["Structure", "Metric", "Median difference", "Better", "p", "p, Holm", "Pairs used"],
        rows,
        f"Median over the pairs of {second} minus {first}; Wilcoxon's signed-rank test, two-sided, over the cases in "
        f"which both methods have a value. Holm's correction is over the {len(tests)} tests of this table. "
        "“Better” is the side of the median difference, whether or not it is significant.",
    )


def _overlap_table(evaluation: Evaluation, summaries: Summaries) -> Table:
    rows = []
    for structure, method in _lines(evaluation):
        dice = summaries.of(method, structure, "dice")
        others = [summaries.of(method, structure, key) for key in ("iou", "precision", "recall")]
        rows.append(
            [
                structure,
                method,
                number_text(dice.mean, 3),
                number_text(dice.median, 3),
                number_text(dice.sd, 3),
                confidence_text(dice, 3),
                used_text(dice),
                *(f"{number_text(s.mean, 3)} ({s.n_used} of {s.n_total})" for s in others),
            ]
        )
    return _table(
        "Overlap",
        ["Structure", "Method", "Dice", "Dice", "Dice", "Dice", "Dice", "IoU", "Precision", "Recall"],
        ["", "", "mean", "median", "SD", "95 % CI of the mean", "used", *["mean (used)"] * 3],
        rows,
        "Per case, then over the cases; “used” is how many of how many cases had a value. The Prostate includes the "
        "lesions that touch it. Precision needs a prediction and recall a reference, hence their own counts.",
        evaluation,
    )


def _surface_table(evaluation: Evaluation, summaries: Summaries) -> Table:
    tolerances = [nsd_key(tolerance) for tolerance in evaluation.options.tolerances_mm]
    keys = ["hd95", "assd", "masd", "hd", *tolerances]
    metrics = [metric_of(key) for key in keys]
    rows = []
    for structure, method in _lines(evaluation):
        found = [summaries.of(method, structure, key) for key in keys]
        cells = [mean_median_text(s, m.decimals) for s, m in zip(found, metrics, strict=True)]
        rows.append([structure, method, *cells, used_text(found[0]), used_text(found[-1])])
    definition = {"voxel": "boundary voxels (MONAI's definition)", "surfel": "surfels (DeepMind's definition)"}
    return _table(
        "Surfaces",
        ["Structure", "Method", *(m.title for m in metrics), "Used", "Used"],
        ["", "", *(m.unit for m in metrics), "distances", "NSD"],
        rows,
        f"Mean (median) over the cases, between {definition[evaluation.options.surface]}; what a case counts for in "
        "which a mask is empty is said under Methods.",
        evaluation,
    )


def _size_table(evaluation: Evaluation, summaries: Summaries, agreements: Sequence[VolumeAgreement]) -> Table:
    by_name = {(a.method, a.structure): a for a in agreements}
    rows = []
    for structure, method in _lines(evaluation):
        found = by_name[method, structure]
        means = [summaries.of(method, structure, f"volume_{side}") for side in ("reference", "prediction")]
        distance = summaries.of(method, structure, "centroid_distance")
        limits = [number_text(value, 2, sign=True) for value in (found.bland_altman.lower, found.bland_altman.upper)]
        icc = found.icc
        rows.append(
            [
                structure,
                method,
                *(mean_median_text(s, 2) for s in means),
                number_text(found.bland_altman.bias, 2, sign=True),
                " to ".join(limits),
                number_text(found.rmse_cm3.value, 2),
                f"{number_text(icc.value, 3)} ({number_text(icc.low, 2)} to {number_text(icc.high, 2)})",
                f"{found.bland_altman.n_used} of {found.bland_altman.n_total}",
                mean_median_text(distance, 2),
                used_text(distance),
            ]
        )
    header = ["Reference", "Predicted", "Bias", "Limits", "RMSE", "ICC(A,1)", "Used", "Centroids apart"]
    return _table(
        "Volume and position",
        ["Structure", "Method", *header, "Used"],
        ["", "", *["cm³"] * 5, "(95 % CI)", "volumes", "mm", "distances"],
        rows,
        "Volumes and distances between centroids are mean (median). Bias is the mean of prediction minus reference, "
        "the limits of agreement are bias ± 1.96 SD; a missed structure counts with 0 cm³. ICC(A,1) is for absolute "
        "agreement, two-way, of single measurements. A distance between centroids needs both masks.",
        evaluation,
    )


def _lines(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """(structure, method) of each line of a table."""
    for structure in evaluation.structures:
        for method in evaluation.options.methods:
            yield structure, method


def _table(
    title: str,
    header: Sequence[str],
    units: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    evaluation: Evaluation,
) -> Table:
    """The table, with the method of each row in its first cell where there are two: a column more would not fit."""
    several = len(evaluation.options.methods) > 1
    header, units = ([cell for k, cell in enumerate(line) if k != 1] for line in (header, units))
    rows = [[f"{first}, {method}" if several else first, *cells] for first, method, *cells in rows]
    return Table(title, header, rows, caption, units)


def _favours(test: MethodTest) -> str:
    """The name of the better method by the median difference; a dash where there is no difference."""
    difference = test.comparison.median_difference
    if not difference or difference != difference:
        return "–"
    higher, lower = test.comparison.second, test.comparison.first
    if difference < 0:
        higher, lower = lower, higher
    return higher if test.metric.better == "higher" else lower
