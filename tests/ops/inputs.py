"""Embeddings that are hard in different ways: {name: (factors, offsets)}; small enough for exhaustive greedy."""

from __future__ import annotations

import torch


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def clustered(n, d, clusters, seed, noise=0.3):
    g = _generator(seed)
    centre = torch.randn(clusters, d, generator=g)
    return centre[torch.randint(clusters, (n,), generator=g)] + noise * torch.randn(n, d, generator=g)


def gradient_like(n, classes, d, seed):
    """Two factors as gradient embeddings of one class are: a direction of the label, features after a ReLU."""
    g = _generator(seed)
    b = torch.softmax(2 * torch.randn(n, classes, generator=g), 1)
    b[:, 0] = -b[:, 1:].sum(1)
    h = torch.relu(clustered(n, d, 5, seed + 1) + 0.5)
    return b, torch.cat([h, torch.ones(n, 1)], 1)


def hard():
    g = _generator(0)
    random = torch.randn(160, 33, generator=g)
    duplicated = clustered(40, 12, 4, 1).repeat(4, 1)[torch.randperm(160, generator=g)]
    zeros = random.clone()[:, :9]
    zeros[::7] = 0
    tight = torch.randn(1, 20, generator=g) + 1e-3 * torch.randn(90, 20, generator=g)
    integers = torch.randint(-1, 2, (150, 4), generator=g).float()
    wide = torch.randn(220, 200, generator=g)
    scaled = clustered(30, 8, 3, 2).repeat(4, 1) * (0.5 + torch.rand(120, 1, generator=g))
    b, h = gradient_like(300, 10, 24, 3)
    signed = torch.cat([random[:80], -random[:80]])
    return {
        "random": ((random,), [0, 160]),
        "clustered": ((clustered(200, 16, 6, 4),), [0, 130, 200]),
        "duplicated": ((duplicated,), [0, 160]),
        "all equal": ((torch.ones(60, 5),), [0, 60]),
        "all equal, two factors": ((torch.ones(40, 3), torch.full((40, 5), -2.0)), [0, 40]),
        "zero rows": ((zeros,), [0, 160]),
        "all zero": ((torch.zeros(12, 4),), [0, 12]),
        "signed": ((signed,), [0, 160]),
        "integers": ((integers,), [0, 150]),
        "orthogonal": ((torch.eye(48),), [0, 48]),
        "equal but for scale": ((scaled,), [0, 120]),
        "tight": ((tight,), [0, 90]),
        "small and odd groups": ((random[:30],), [0, 0, 1, 3, 6, 6, 30, 30]),
        "no rows": ((torch.zeros(0, 7),), [0, 0]),
        "no groups": ((torch.zeros(0, 7),), [0]),
        "one row": ((torch.ones(1, 1),), [0, 1]),
        "d = 1": ((torch.randn(50, 1, generator=g),), [0, 50]),
        "wide": ((wide,), [0, 220]),
        "two factors": ((random, torch.randn(160, 5, generator=g)), [0, 50, 160]),
        "a sign as a factor": ((random[:130], torch.where(random[:130, :1] > 0.4, 2.0, -1.0)), [0, 130]),
        "product wider than long": ((random[:60], wide[:60, :50]), [0, 60]),
        "three factors": ((random[:80, :6], random[:80, 6:10], random[:80, 10:13]), [0, 30, 80]),
        "gradients": ((b, h), [0, 300]),
        "not contiguous": ((wide.T[:120, ::3], wide[100:220, 1:40:2]), [0, 120]),
        "huge and tiny numbers": ((random * torch.logspace(-38, 37, 160)[:, None],), [0, 160]),
    }


HARD = hard()
