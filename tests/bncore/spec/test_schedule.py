"""The learning-rate schedule is a pure function of the step."""

import math

import pytest

from bncore.spec import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    ScheduleSpec,
    StepSchedule,
    WarmRestartsSchedule,
    lr_factor,
)


def test_constant_stays_and_warmup_rises_linearly() -> None:
    assert lr_factor(ConstantSchedule(), 1, 10) == 1.0
    factors = [lr_factor(ConstantSchedule(warmup_steps=4), step, 10) for step in range(1, 7)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_step_multiplies_by_gamma_every_step_size() -> None:
    schedule = StepSchedule(step_size=3, gamma=0.5)
    assert [lr_factor(schedule, step, 9) for step in range(1, 10)] == [1.0] * 3 + [0.5] * 3 + [0.25] * 3


def test_cosine_starts_at_one_after_warmup_and_ends_near_the_final_fraction() -> None:
    schedule = CosineSchedule(warmup_steps=10, final_fraction=0.1)
    assert lr_factor(schedule, 11, 110) == 1.0
    assert lr_factor(schedule, 61, 110) == pytest.approx(0.1 + 0.9 * 0.5)
    last = 0.1 + 0.9 * (1 + math.cos(math.pi * 0.99)) / 2
    assert lr_factor(schedule, 110, 110) == pytest.approx(last)


TORCH: dict[str, tuple[ScheduleSpec, str, dict[str, object]]] = {
    "cosine": (CosineSchedule(final_fraction=0.2), "CosineAnnealingLR", {"T_max": 50, "eta_min": 0.2}),
    "one cycle": (OneCycleSchedule(), "OneCycleLR", {"max_lr": 1.0, "total_steps": 50}),
    "one cycle, linear, its top between two steps": (
        OneCycleSchedule(rise=0.43, start_fraction=0.1, final_fraction=0.05, anneal="linear"),
        "OneCycleLR",
        {
            "max_lr": 1.0,
            "total_steps": 50,
            "pct_start": 0.43,
            "div_factor": 10.0,
            "final_div_factor": 2.0,
            "anneal_strategy": "linear",
        },
    ),
    "warm restarts": (WarmRestartsSchedule(period=7), "CosineAnnealingWarmRestarts", {"T_0": 7}),
    "longer and longer": (
        WarmRestartsSchedule(period=5, period_factor=3, final_fraction=0.1),
        "CosineAnnealingWarmRestarts",
        {"T_0": 5, "T_mult": 3, "eta_min": 0.1},
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_it_equals_the_schedule_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    schedule, theirs, arguments = TORCH[name]
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, theirs)(optimizer, **arguments)
    for step in range(1, 51):
        assert lr_factor(schedule, step, 50) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < 50:
            scheduler.step()


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_has_a_factor_however_short_the_budget(total: int) -> None:
    for rise in (0.01, 1 / 3, 0.5, 0.99):
        factors = [lr_factor(OneCycleSchedule(rise=rise), step, total) for step in range(1, total + 1)]
        assert all(0.0 < factor <= 1.0 for factor in factors)


def test_warm_restarts_begin_after_warm_up() -> None:
    schedule = WarmRestartsSchedule(period=4, period_factor=2, warmup_steps=2)
    factors = [lr_factor(schedule, step, 20) for step in range(1, 16)]
    assert [step for step, factor in enumerate(factors, start=1) if factor == 1.0] == [2, 3, 7, 15]
