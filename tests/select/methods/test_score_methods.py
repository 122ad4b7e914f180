"""What all score methods have in common: groups, budgets, missing evidence, types."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dq_fast.errors import InputError
from dq_fast.select.groups import Groups
from dq_fast.select.methods import METHODS, Evidence, scores, select

from .score_inputs import NESTED, SCORE_METHODS, evidence, scored

QUICK = {"grand": {"heads": 2, "epochs": 2}, "el2n": {"heads": 2, "epochs": 2}, "forgetting": {"heads": 2, "epochs": 4}}


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_registered(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.needs <= {"features", "logits", "labels"}
    assert method.nested == (name in NESTED)
    assert "20" in method.source


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_groups_and_budgets(name: str) -> None:
    x, z, y = scored(43)
    labels = np.array([2, 0, 1] * 14 + [3])
    budgets = [5, 14, 0, 1]
    chosen = select(name, evidence(x, z, y, budgets, labels), **QUICK.get(name, {}))
    assert chosen.ranking.dtype == np.int64
    assert chosen.scores.dtype == np.float64
    assert len(chosen.ranking) == len(chosen.scores) == 20
    assert np.isfinite(chosen.scores).all()
    begin = 0
    for g, budget in enumerate(budgets):
        mine = chosen.ranking[begin : begin + budget]
        assert (labels[mine] == g).all()
        assert len(set(mine.tolist())) == budget
        begin += budget


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_budgets_from_nothing_to_everything(name: str) -> None:
    x, z, y = scored(25)
    whole = select(name, evidence(x, z, y, 25), **QUICK.get(name, {}))
    assert sorted(whole.ranking.tolist()) == list(range(25))
    for budget in (0, 1, 11):
        chosen = select(name, evidence(x, z, y, budget), **QUICK.get(name, {}))
        assert chosen.ranking.shape == chosen.scores.shape == (budget,)
        if METHODS[name].nested:
            assert chosen.ranking.tolist() == whole.ranking[:budget].tolist()
    again = select(name, evidence(x, z, y, 25), **QUICK.get(name, {}))
    assert again.ranking.tolist() == whole.ranking.tolist()
    assert again.scores.tolist() == whole.scores.tolist()


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_no_rows(name: str) -> None:
    x, z, y = torch.empty(0, 4), torch.empty(0, 3), np.empty(0, np.int64)
    chosen = select(name, evidence(x, z, y, 0))
    assert chosen.ranking.shape == chosen.scores.shape == (0,)
    groups = Groups(np.arange(3), np.array([0, 0, 3, 3]), np.arange(3), np.ones(3, np.int64))
    some = Evidence((), groups, np.array([0, 2, 0]), *scored(3))
    assert len(select(name, some, **QUICK.get(name, {})).ranking) == 2


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_missing_evidence_says_what_to_give(name: str) -> None:
    x, z, y = scored(9)
    for missing in METHODS[name].needs:
        given = {"features": x, "logits": z, "labels": y} | {missing: None}
        evidence_without = Evidence((), Groups.of(None, 9), np.array([3]), **given)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"{missing} must be given for method '{name}'"):
            select(name, evidence_without)


@pytest.mark.parametrize(
    "name", [n for n in SCORE_METHODS if n not in ("least-confidence", "entropy", "margin", "cal")]
)
def test_labels_out_of_range(name: str) -> None:
    x, z, y = scored(9)
    if "labels" not in METHODS[name].needs and name != "deepfool":
        return
    y[4] = 3
    with pytest.raises(InputError, match="labels must be 0 to 2, got 3 in row 4"):
        select(name, evidence(x, z, y, 3))
    with pytest.raises(InputError, match="labels must be integers"):
        select(name, evidence(x, z, y.astype(float), 3))


@pytest.mark.parametrize("name", SCORE_METHODS)
@pytest.mark.parametrize("which", ["features", "logits"])
def test_numbers_that_are_not_finite(name: str, which: str) -> None:
    if which not in METHODS[name].needs:
        return
    x, z, y = scored(30)
    (x if which == "features" else z)[21, 2] = float("inf")
    with pytest.raises(InputError, match=f"{which} must be finite, got NaN or infinity in row 21"):
        select(name, evidence(x, z, y, 3), **QUICK.get(name, {}))


@pytest.mark.parametrize("name", SCORE_METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_types_and_strides(name: str, dtype: torch.dtype) -> None:
    x, z, y = scored(30, dtype=dtype)
    wide_x, wide_z = torch.zeros(60, 8, dtype=dtype), torch.zeros(60, 6, dtype=dtype)
    wide_x[::2, ::2], wide_z[::2, ::2] = x, z
    strided = select(name, evidence(wide_x[::2, ::2].requires_grad_(), wide_z[::2, ::2], y, 8), **QUICK.get(name, {}))
    double = select(name, evidence(x.double(), z.double(), y, 8), **QUICK.get(name, {}))
    assert strided.ranking.tolist() == double.ranking.tolist()
    np.testing.assert_allclose(strided.scores, double.scores, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_blocks_of_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, z, y = scored(37)
    whole = select(name, evidence(x, z, y, 20), **QUICK.get(name, {}))
    monkeypatch.setattr(scores, "_BLOCK_NUMBERS", 40)  # a few rows
    parts = select(name, evidence(x, z, y, 20), **QUICK.get(name, {}))
    assert parts.ranking.tolist() == whole.ranking.tolist()
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-9, atol=1e-12)
    if METHODS[name].needs & {"logits"}:
        z[35, 0] = float("nan")
        with pytest.raises(InputError, match="logits must be finite, got NaN or infinity in row 35"):
            select(name, evidence(x, z, y, 20), **QUICK.get(name, {}))
