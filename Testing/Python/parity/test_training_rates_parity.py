# SPDX-License-Identifier: Apache-2.0
"""Learning rates are those of the reference implementations, step by step and parameter by parameter."""

import json
from pathlib import Path

import pytest

from ProstateXferLib.training.engine.parameter_groups import layer_factors
from ProstateXferLib.training.engine.rates import rate_factor
from ProstateXferLib.training.recipe.schema import Schedule

GOLDEN = json.loads(
    (Path(__file__).resolve().parents[2] / "Data" / "golden" / "mr-dinov3" / "rates.json").read_text(encoding="utf-8")
)
SCHEDULES = "mr-dinov3/ssl_losses.npz"


def rates(schedule, peak, steps):
    return [peak * rate_factor(schedule, step, steps) for step in range(steps)]


@pytest.mark.parametrize("epoch", [int(epoch) for epoch in GOLDEN["nnunet_poly_lr"]])
def test_nnunets_polynomial_by_epoch(epoch):
    schedule = Schedule(epochs=1000, steps_per_epoch=250, decay="polynomial", by_epoch=True)
    for step in (0, 1, 249):
        rate = 0.01 * rate_factor(schedule, 250 * epoch + step, 250_000)
        assert rate == pytest.approx(GOLDEN["nnunet_poly_lr"][str(epoch)], rel=1e-12)


def test_dinov3s_warm_up_and_cosine(golden):
    schedule = Schedule(epochs=50, warmup_epochs=10, warmup="skip_peak", last_is_final=True, final_factor=1e-3)
    assert rates(schedule, 1e-3, 50) == pytest.approx(golden(SCHEDULES)["sched/warmup_cosine"], rel=1e-9, abs=1e-15)


def test_dinov3s_cosine_that_stays_at_its_end(golden):
    schedule = Schedule(
        epochs=60, warmup_epochs=10, warmup="skip_peak", decay_epochs=30, last_is_final=True, final_factor=0.25
    )
    assert rates(schedule, 2e-4, 60) == pytest.approx(
        golden(SCHEDULES)["sched/warmup_cosine_const"], rel=1e-9, abs=1e-15
    )


def test_dinov3s_first_kind_of_schedule(golden):
    schedule = Schedule(epochs=50, warmup_epochs=5, warmup="both_ends", final_factor=1e-3)
    assert rates(schedule, 1e-3, 50) == pytest.approx(golden(SCHEDULES)["sched/v1_lr"], rel=1e-9, abs=1e-15)


def test_dgcfs_steps_by_epoch():
    """2e-4, 2e-5, 2e-6, 2e-7 for epochs 1-5, 6-10, 11-15, 16-20 (the released training code)."""
    schedule = Schedule(epochs=20, decay="step", step_epochs=5, step_factor=0.1, by_epoch=True)
    found = [2e-4 * rate_factor(schedule, step, 20 * 7) for step in range(20 * 7)]
    assert found == pytest.approx([2e-4 * 0.1 ** (step // 7 // 5) for step in range(20 * 7)], rel=1e-12)


def test_dinov3s_multipliers_by_parameter():
    expected = GOLDEN["dinov3_lr_multipliers"]
    assert layer_factors(expected, 0.9, 0.2) == pytest.approx(expected, rel=1e-12)
    inside = {f"network.dino_encoder.{name}": value for name, value in expected.items()}
    heads = {"network.up_projection.decode.0.0.weight": 1.0, "network.patch_embed.proj.weight": 1.0}
    assert layer_factors({**inside, **heads}, 0.9, 0.2) == pytest.approx({**inside, **heads}, rel=1e-12)
