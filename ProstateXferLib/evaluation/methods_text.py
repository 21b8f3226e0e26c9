# SPDX-License-Identifier: Apache-2.0
"""How the numbers were made, exactly, as paragraphs of the report."""

from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.metrics.sct.tissues import TISSUE_CLASSES
from ProstateXferLib.pipelines.provenance import library_versions

_EMPTY = {
    "best_worst": "two empty masks have overlap and NSD 1 and distances 0 mm; with one of them empty overlap and "
    "NSD are 0 and distances have no value (the case is left out of their mean and counted)",
    "nan": "two empty masks have no value in any metric; with one of them empty overlap and NSD are 0 and distances "
    "have no value (the case is left out of their mean and counted)",
    "penalty": "two empty masks have overlap and NSD 1 and distances 0 mm; with one of them empty overlap and NSD "
    "are 0 and distances are the length of the image's diagonal, so that every case is in every mean",
}
_SURFACE = {
    "voxel": "surfaces are the voxels that one erosion by the six face neighbours takes away (zero outside the image), "
    "each of equal weight at its centre, and percentiles are interpolated linearly: MONAI's definition",
    "surfel": "surfaces are the corners of voxels at which inside and outside meet, weighted by the area of the "
    "surface there, and a percentile is the first distance at which that share of the area is reached: the "
    "definition of DeepMind's surface-distance",
}


def methods_paragraphs(evaluation: Evaluation) -> list[str]:
    """Cases, definitions, detection or synthesis, statistics, software."""
    options = evaluation.options
    own = _segmentation(options) if options.kind == "segmentation" else [_synthesis(options)]
    return [_cases(evaluation), *own, _statistics(evaluation), _software()]


def _cases(evaluation: Evaluation) -> str:
    grids = (
        "Predictions on another grid were resampled to their reference's "
        f"({'nearest neighbour' if evaluation.options.kind == 'segmentation' else 'linear, −1024 HU outside'})."
        if evaluation.options.resample
        else "Cases whose prediction lies on another grid than the reference (by more than 1/20 voxel) were refused."
    )
    return (
        f"Cases: {evaluation.n_cases} were matched, {evaluation.n_cases - evaluation.n_failed} evaluated and "
        f"{evaluation.n_failed} failed. A failed case has no value and is in the second number of every “n of "
        f"n”. {grids}"
    )


def _segmentation(options: EvaluationOptions) -> list[str]:
    tolerances = " and ".join(f"{tolerance:g} mm" for tolerance in options.tolerances_mm)
    strata = ", ".join(f"{stratum.name} {stratum.label}" for stratum in options.strata)
    return [
        "Segmentation: structures are matched by name. Dice = 2|R∩P|/(|R|+|P|), IoU = |R∩P|/|R∪P|, precision = "
        "|R∩P|/|P| and recall = |R∩P|/|R| count voxels, per case. The prostate includes the lesion components that "
        "touch it (26 neighbours). Volumes count voxels; centroids are means of voxel centres in patient "
        "coordinates. These are the numbers of “prostatexfer measure --reference”.",
        f"Surface distances: {_SURFACE[options.surface]}. HD is the largest distance, HD95 the larger of the two "
        "directed 95th percentiles, ASSD the mean over all elements of both surfaces, MASD the mean of the two "
        f"directed means, NSD the share of both surfaces within {tolerances} of the other (≤).",
        f"Empty masks: {_EMPTY[options.empty]}. Precision has no value without a prediction and recall none without a "
        "reference" + (" (under this rule 1 or 0)." if options.empty == "penalty" else "."),
        "Lesions are the 26-connected components of a lesion structure. Any-overlap rule (SAP): a lesion is "
        "detected when one of its voxels is predicted, and a predicted component that touches no lesion is a false "
        "positive. PI-CAI's rule: one-to-one matching at IoU ≥ 0.10 with the most matches and then the largest sum "
        "of IoU; a component that reaches 0.10 with a lesion that another stands for is ignored. Strata by the "
        f"reference's volume: {strata}; false positives by their own volume.",
    ]


def _synthesis(options: EvaluationOptions) -> str:
    low, high = options.hu_range
    classes = ", ".join(f"{c.name} {c.hu_range[0]:g} to {c.hu_range[1]:g} HU" for c in TISSUE_CLASSES)
    return (
        "Synthetic CT: all metrics are inside the body mask, the given one or the largest piece of the true CT "
        "above −300 HU with its gas filled slice by slice. MAE and ME of synthetic minus true HU are not clipped. "
        f"PSNR = 10 log10(R²/MSE), SSIM and MS-SSIM are of HU clipped to {low:g} to {high:g} HU (R is its width): "
        "SSIM in 3-D with a uniform window of 7 voxels, sample covariance, K = 0.01 and 0.03, −1024 HU outside the "
        "mask, HU shifted to be non-negative, three voxels of rim left out (SynthRAD2023); MS-SSIM on five levels "
        f"with luminance on each (SynthRAD2025). Tissue classes of the true CT have their own ranges: {classes} "
        "(DGCF)."
    )


def _statistics(evaluation: Evaluation) -> str:
    options = evaluation.options
    text = (
        "Statistics: means, medians and SD (n − 1) are over cases. 95 % intervals are percentile bootstraps over "
        f"cases ({options.resamples} resamples, seed {options.seed}). "
    )
    if options.kind == "segmentation":
        text += (
            "Volume agreement: bias and limits of agreement (Bland and Altman), root mean squared error, and ICC(A,1), "
            "two-way, absolute agreement, with McGraw and Wong's interval. "
        )
    if len(options.methods) > 1:
        text += "Two methods: Wilcoxon's signed-rank test, two-sided, Holm's correction over all tests made."
    return text.strip()


def _software() -> str:
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items() if name != "torch")
    return f"Software: {versions}. Research use only."
