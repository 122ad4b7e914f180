"""The registry, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dq_fast.errors import InputError
from dq_fast.select.methods import METHODS, Method, select
from dq_fast.select.methods.base import first_best, highest

from .inputs import evidence, rows


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_is_described(name: str) -> None:
    method = METHODS[name]
    assert isinstance(method, Method)
    assert method.name == name
    assert method.needs <= {"factors", "features", "logits", "labels"}
    assert method.source
    assert method.run.__doc__


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].needs == {"factors"}])
def test_options_are_described(name: str) -> None:
    method = METHODS[name]
    assert all(f"{option}: " in str(method.run.__doc__) for option in method.options)


def test_names() -> None:
    assert len(METHODS) == len(set(METHODS)) == 17
    assert "herding" in METHODS
    assert "nothing" not in METHODS
    with pytest.raises(InputError, match=r"method must be one of 'random', .*, got 'nothing'"):
        select("nothing", evidence(rows(4, 2), 1))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(InputError, match=r"options must be those of method 'herding' \(normalised, max_memory\)"):
        select("herding", evidence(rows(4, 2), 1), lam=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": np.array([5])}, "budgets must be 0 to 4, the rows of group 0, got 5"),
        ({"budgets": np.array([-1])}, "budgets must be 0 to 4"),
        ({"budgets": np.array([1, 1])}, "budgets must be one integer for each of the 1 groups"),
        ({"budgets": np.array([1.0])}, "budgets must be one integer"),
        ({"factors": (torch.zeros(3, 2),)}, "embedding must be of the 4 rows of the groups, got 3"),
        ({"factors": (torch.zeros(4, 2), torch.zeros(5, 2))}, r"embedding\[1\] must be 4 rows"),
        ({"factors": (torch.zeros(4),)}, "must be 2-D"),
        ({"factors": ()}, "embedding must be given for method 'herding'"),
        ({"features": torch.zeros(3, 2)}, "features must be 2-D with the 4 rows"),
        ({"logits": torch.zeros(4)}, "logits must be 2-D with the 4 rows"),
        ({"labels": np.zeros(5, int)}, "labels must be one for each of the 4 rows"),
    ],
)
def test_evidence_that_does_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select("herding", dataclasses.replace(evidence(rows(4, 2), 1), **change))


def test_missing_evidence_is_named() -> None:
    with pytest.raises(InputError, match="logits must be given for method 'entropy'"):
        select("entropy", evidence(rows(4, 2), 1))


def test_highest_takes_the_lowest_row_of_equals() -> None:
    chosen = highest(evidence(rows(6, 1), [2, 1], [0, 1, 0, 1, 0, 1]), np.array([1.0, 5, 3, 5, 3, 5]))
    assert chosen.ranking.tolist() == [2, 4, 1]
    assert chosen.scores.tolist() == [3, 3, 5]


def test_first_best() -> None:
    values = torch.tensor([1.0, 2 - 1e-9, 2.0, -torch.inf], dtype=torch.float64)
    assert first_best(values, 1e-8) == 1
    assert first_best(values, 1e-10) == 2
