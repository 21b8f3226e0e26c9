# SPDX-License-Identifier: Apache-2.0
"""The plots of the report over all cases."""

from collections.abc import Sequence

import numpy as np

from ProstateXferLib.evaluation.agreement import VolumeAgreement
from ProstateXferLib.evaluation.catalog import metric_of, nsd_key
from ProstateXferLib.evaluation.detection import Detection
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.synthesis_scores import HISTOGRAM_EDGES_HU
from ProstateXferLib.reports.evaluation_agreement import bland_altman_plots, metric_over_volume
from ProstateXferLib.reports.evaluation_curves import DetectionCurve, froc_and_pr, hu_histograms
from ProstateXferLib.reports.evaluation_distributions import Panel, distributions
from ProstateXferLib.reports.page import Figure

_HOW_TO_READ = (
    "Each point is one case; the box spans the quartiles with the median as a dark line, whiskers reach to the last "
    "case within 1.5 interquartile ranges, and the shade is a kernel density cut at the data. n is how many of how "
    "many cases had a value."
)


def distribution_figures(evaluation: Evaluation) -> list[Figure]:
    """Violins and boxes of the main metrics, all structures side by side."""
    if evaluation.options.kind == "sct":
        panels = [_panel(evaluation, key) for key in ("mae", "me", "psnr", "ssim", "ms_ssim")]
    else:
        nsd = [nsd_key(tolerance) for tolerance in evaluation.options.tolerances_mm[-1:]]
        keys = ("dice", "hd95", "assd", *nsd, "volume_difference", "centroid_distance")
        panels = [_panel(evaluation, key) for key in keys]
    panels = [panel for panel in panels if panel is not None]
    return [Figure("Distribution over the cases", _HOW_TO_READ, distributions(panels))] if panels else []


def agreement_figures(agreements: Sequence[VolumeAgreement]) -> list[Figure]:
    """Bland-Altman plots of the volumes."""
    several = len({a.method for a in agreements}) > 1
    panels = {
        f"{a.structure}, {a.method}" if several else a.structure: a.bland_altman
        for a in agreements
        if a.bland_altman.n_used
    }
    if not panels:
        return []
    caption = (
        "Difference of the volumes over their mean. Lines: bias and limits of agreement (bias ± 1.96 SD), with their "
        "95 % confidence intervals as bands."
    )
    return [Figure("Bland–Altman plots of the volumes", caption, bland_altman_plots(panels))]


def detection_figures(evaluation: Evaluation, found: Sequence[Detection]) -> list[Figure]:
    """Dice over lesion volume, and the curves, for each lesion structure."""
    figures = []
    for structure in evaluation.lesion_structures:
        ours = [one for one in found if one.structure == structure]
        points = {
            one.method: tuple(
                evaluation.lesions(one.method, structure, key) for key in ("lesion_volume", "lesion_dice")
            )
            for one in ours
        }
        if not any(volumes for volumes, _ in points.values()):
            continue
        edges = evaluation.options.strata_edges_cm3
        drawn = metric_over_volume(points, y_label="Dice of the lesion", edges_cm3=edges)
        caption = "Each point is one reference lesion; missed lesions have Dice 0. Dashed: the edges of the strata."
        figures.append(Figure(f"{structure}: Dice by lesion volume", caption, drawn))
        figures.append(_curve_figure(structure, ours))
    return figures


def histogram_figures(evaluation: Evaluation) -> list[Figure]:
    """HU of the true and the synthetic CTs."""
    done = [result for result in evaluation.results if result.reference_histogram and not result.failures]
    if not done:
        return []
    counts = {"Reference CT": np.sum([result.reference_histogram for result in done], axis=0)}
    for method in evaluation.options.methods:
        counts[method] = np.sum([result.methods[method].histogram for result in done], axis=0)
    caption = (
        f"Voxels inside the body of {len(done)} of {evaluation.n_cases} cases, in bins of 16 HU; what lies beyond the "
        "axis is in its outermost bins. Dashed: the edges of the tissue classes."
    )
    return [Figure("Histogram of HU", caption, hu_histograms(HISTOGRAM_EDGES_HU, counts, len(done)))]


def _panel(evaluation: Evaluation, key: str) -> Panel | None:
    metric = metric_of(key)
    values = {}
    for structure in evaluation.structures:
        by_method = {m: evaluation.column(m, structure, key) for m in evaluation.options.methods}
        if key in evaluation.metrics_of(structure):
            values[structure] = by_method
    if not values:
        return None
    bounds = (None, 1.0) if metric.better == "higher" and metric.unit == "" else (None, None)
    return Panel(metric.title, metric.axis_label, values, bounds, zero_line=metric.better == "zero")


def _curve_figure(structure: str, found: Sequence[Detection]) -> Figure:
    curves = []
    for one in found:
        whole = next(iter(one.summaries.values()))
        curves.append(DetectionCurve(one.method, (*one.point, whole.pooled_precision), one.curve))
    whole = next(iter(found[0].summaries.values()))
    n = f"{whole.n_lesions} lesions of {whole.n_exams} exams, any-overlap rule."
    if any(one.curve is not None for one in found):
        caption = f"{n} The curves come from the maps of confidences, the diamonds from the label maps."
        left_out = max(one.n_without_confidence for one in found if one.curve is not None)
        caption += f" {left_out} exams had no map of confidences and are in no curve." if left_out else ""
    else:
        caption = (
            f"{n} Label maps have no confidences, so each method is one point; a curve needs maps of confidences "
            "(--confidences)."
        )
    return Figure(f"{structure}: FROC and precision–recall", caption, froc_and_pr(curves))
