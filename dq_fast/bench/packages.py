"""Published packages behind the cases' one shape. Each is imported when it is first used."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dq_fast.bench.case import Call
from dq_fast.bench.torch_forms import scores_of_maps


def apricot_greedy(similarity: Tensor, budget: int) -> Call:
    """GraphCutSelection, lazy, on a precomputed matrix; the matrix is float64 before, as it wants it."""
    from apricot import GraphCutSelection

    s = similarity.double().numpy()

    def call() -> np.ndarray:
        chosen = GraphCutSelection(budget, metric="precomputed", alpha=1.0, optimizer="lazy").fit(s)
        return np.asarray(chosen.ranking)

    return call


def submodlib_greedy(similarity: Tensor, budget: int, *, built: bool = False) -> Call:
    """GraphCutFunction from the matrix and LazyGreedy, or, `built`, LazyGreedy alone."""
    from submodlib import GraphCutFunction  # type: ignore[import-untyped]

    s = similarity.numpy()

    def build() -> GraphCutFunction:
        return GraphCutFunction(n=len(s), mode="dense", lambdaVal=1.0, separate_rep=False, mgsijs=s)

    def maximize(function: GraphCutFunction) -> np.ndarray:
        picks = function.maximize(
            budget=budget, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False,
            show_progress=False,
        )  # fmt: skip
        return np.array([row for row, _ in picks])

    if built:
        function = build()
        return lambda: maximize(function)
    return lambda: maximize(build())


def triton_greedy(similarity: Tensor, budget: int, optimizer: str) -> Call:
    """GraphCut on the matrix as it is, on a GPU; the kernel is compiled at the first call."""
    from triton_submodular.functions import GraphCut  # type: ignore[import-not-found]

    def call() -> Tensor:
        picks: Tensor = GraphCut(similarity, metric=None).maximize(budget, optimizer)[0]
        return picks

    return call


def _full(activations: Tensor, gradients: Tensor) -> Tensor:
    """Gradients [b, c, h, w], also where they are constant over the map."""
    if gradients.dim() == 4:
        return gradients
    return gradients[:, :, None, None].expand_as(activations).contiguous()


def torchcam_scores(activations: Tensor, gradients: Tensor, grid: tuple[int, int]) -> Call:
    """GradCAMpp's weights and map of given activations and gradients: its backward pass is not part of the question."""
    from torchcam.methods import GradCAMpp

    class Given(GradCAMpp):  # type: ignore[misc]
        def _backprop(self, *args: object, **kwargs: object) -> None:
            pass

    gradients = _full(activations, gradients)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1))
    extractor = Given(model, "0", input_shape=(3, 8, 8))
    extractor.remove_hooks()

    def call() -> Tensor:
        extractor.hook_a, extractor.hook_g = [activations], [gradients]
        maps = extractor.compute_cams(0, None, normalized=False)[0]
        return scores_of_maps(maps, grid)

    return call


def grad_cam_scores(activations: Tensor, gradients: Tensor, grid: tuple[int, int]) -> Call:
    """GradCAMPlusPlus' weights and map of given activations and gradients, which it takes as numpy arrays."""
    from pytorch_grad_cam import GradCAMPlusPlus  # type: ignore[import-untyped]

    a, g = activations.numpy(), _full(activations, gradients).numpy()
    layer = torch.nn.Conv2d(1, 1, 1)
    extractor = GradCAMPlusPlus(model=torch.nn.Sequential(layer), target_layers=[layer])

    def call() -> Tensor:
        maps = np.maximum(extractor.get_cam_image(None, layer, [], a, g), 0)
        return scores_of_maps(torch.from_numpy(maps), grid)

    return call
