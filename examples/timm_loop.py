"""Train on a store with timm: its loader, augmentation, model, optimizer and schedule.

    python examples/timm_loop.py photos.dq --model resnet18 --size 224 --epochs 100

`store.dataset()` takes the place of timm's ImageDataset: create_loader sets its transform.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import timm
import torch
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

import dq_fast as dq


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy on the store's own images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="folder of a store")
    parser.add_argument("--model", default="resnet18", help="any model of timm")
    parser.add_argument("--size", type=int, default=224, help="side that the model sees, px")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-aug", action="store_true", help="only resize")
    parsed = parser.parse_args(arguments)

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store = dq.open(parsed.store)
    shared = {"input_size": (3, parsed.size, parsed.size), "num_workers": parsed.workers, "device": device}
    hflip = 0.5 if store.hflip else 0.0  # not for digits and the like
    training = create_loader(
        store.dataset(), batch_size=parsed.batch_size, is_training=True, no_aug=parsed.no_aug, hflip=hflip, **shared
    )
    looking = create_loader(store.dataset(), batch_size=parsed.batch_size, is_training=False, crop_pct=1.0, **shared)
    model = timm.create_model(parsed.model, num_classes=len(store.class_names)).to(device)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=2e-3, weight_decay=0.05)
    schedule = CosineLRScheduler(optimizer, t_initial=parsed.epochs)
    for epoch in range(parsed.epochs):
        schedule.step(epoch)
        model.train()
        for images, labels in training:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in looking)
    print(f"{len(store)} images, {parsed.epochs} epochs: {right / len(store):.1%} of them right")
    return right / len(store)


if __name__ == "__main__":
    main()
