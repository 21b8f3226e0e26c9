# SPDX-License-Identifier: Apache-2.0
"""HD95, ASSD and NSD of one case, 320 x 320 x 24 voxels of 0.5 x 0.5 x 3 mm, against MONAI and surface-distance.

Counted for the gland: 2.5 million voxels, 240,000 in the box around both masks, 14,600 in each surface, a third of them
in both; MONAI finds the surfaces and the distances anew in each of its three calls. surface-distance (DeepMind) is
timed where it can be imported; the project does not depend on it.
"""

import importlib.util
import warnings

import numpy as np
import torch
from rounds import best_seconds, report

from ProstateXferLib.metrics import surface_metrics

SHAPE_ZYX, SPACING_ZYX = (24, 320, 320), (3.0, 0.5, 0.5)
TOLERANCE_MM = 2.0
VOXEL, SURFEL, MONAI, DEEPMIND = "library, voxel", "library, surfel", "MONAI, 3 calls", "surface-distance"


def lumpy(centre_zyx_mm: tuple[float, ...], radii_zyx_mm: tuple[float, ...], seed: int) -> np.ndarray:
    """bool (z, y, x): an ellipsoid with some waves on it."""
    random = np.random.default_rng(seed)
    places = [np.arange(n) * s for n, s in zip(SHAPE_ZYX, SPACING_ZYX, strict=True)]
    scaled = [(p - c) / r for p, c, r in zip(places, centre_zyx_mm, radii_zyx_mm, strict=True)]
    z, y, x = np.meshgrid(*scaled, indexing="ij", sparse=True)
    angle, fade = np.arctan2(y, x), np.cos(np.arctan2(z, np.hypot(y, x)))
    waves = sum(random.normal(0, 0.06) * np.cos(k * angle + random.uniform(0, 2 * np.pi)) * fade for k in range(1, 6))
    return np.sqrt(z**2 + y**2 + x**2) <= 1 + waves


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(reference, prediction) of a gland, of a lesion, and of the gland with a voxel astray in a corner."""
    gland = lumpy((35, 80, 80), (22, 22, 26.5), 1), lumpy((36, 81, 80.5), (23, 22, 26), 2)
    lesion = lumpy((30, 92, 70), (6, 3.5, 4.6), 3), lumpy((31.5, 92.5, 71), (6, 4, 4.4), 4)
    astray = gland[1].copy()
    astray[0, 2, 3] = True
    return {"gland": gland, "lesion": lesion, "gland and a stray voxel": (gland[0], astray)}


def monai_calls(reference: np.ndarray, prediction: np.ndarray) -> tuple[float, float, float]:
    """HD95, ASSD and NSD by voxel count as MONAI has them."""
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": SPACING_ZYX}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # 1.6 calls itself with an argument that it gives up
        return (
            float(compute_hausdorff_distance(*pair, percentile=95, **options)),
            float(compute_average_surface_distance(*pair, symmetric=True, **options)),
            float(compute_surface_dice(*pair, [TOLERANCE_MM], **options)),
        )


def deepmind_calls(reference: np.ndarray, prediction: np.ndarray) -> tuple[float, float, float]:
    """HD95, MASD and NSD by area as surface-distance has them."""
    import surface_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it takes filters from where SciPy used to have them
        distances = surface_distance.compute_surface_distances(reference, prediction, SPACING_ZYX)
    return (
        surface_distance.compute_robust_hausdorff(distances, 95),
        float(np.mean(surface_distance.compute_average_surface_distance(distances))),
        surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM),
    )


def ours(reference: np.ndarray, prediction: np.ndarray, definition: str, mean: str) -> tuple[float, float, float]:
    """The same three of all that one call gives."""
    found = surface_metrics(reference, prediction, SPACING_ZYX, tolerances_mm=(1, TOLERANCE_MM), definition=definition)
    return found.hd95, getattr(found, mean), found.nsd[TOLERANCE_MM]


def main(rounds: int) -> None:
    """Print the times of each case and how far the results are from the peers'."""
    has_deepmind = importlib.util.find_spec("surface_distance") is not None
    for name, pair in cases().items():
        contenders = {
            MONAI: lambda pair=pair: monai_calls(*pair),
            VOXEL: lambda pair=pair: ours(*pair, "voxel", "assd"),
            SURFEL: lambda pair=pair: ours(*pair, "surfel", "masd"),
        }
        if has_deepmind:
            contenders[DEEPMIND] = lambda pair=pair: deepmind_calls(*pair)
        results = {contender: np.array(run()) for contender, run in contenders.items()}
        best = best_seconds(contenders, 3 * rounds)
        volume_cm3 = np.count_nonzero(pair[0]) * np.prod(SPACING_ZYX) / 1000
        title = f"Surface metrics, {name} of {volume_cm3:.1f} cm³, {torch.get_num_threads()} threads"
        report(title, best, MONAI, {VOXEL: 1 / 6, SURFEL: 1 / 6})
        print(f"  MONAI takes {best[MONAI] / best[VOXEL]:.0f} times as long as the library (asked >= 6, aim 10)")
        print(f"  largest difference from MONAI {np.abs(results[MONAI] - results[VOXEL]).max():.1e} (asked <= 1e-5)")
        if has_deepmind:
            print(f"  largest difference from surface-distance {np.abs(results[DEEPMIND] - results[SURFEL]).max():.1e}")
            peers = {key: best[key] for key in (DEEPMIND, VOXEL, SURFEL)}
            report(f"{title}, against surface-distance", peers, DEEPMIND, {VOXEL: 1.0, SURFEL: 1.0})
    if not has_deepmind:
        print("\n  surface-distance is not installed, so it was not timed.")
