"""The learning-rate schedule is a pure function of the step."""

import math

import pytest

from bncore.spec import ConstantSchedule, CosineSchedule, StepSchedule, lr_factor


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


def test_cosine_equals_the_schedule_of_torch() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.2)
    for step in range(1, 51):
        ours = lr_factor(CosineSchedule(final_fraction=0.2), step, 50)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()
