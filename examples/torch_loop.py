"""Train on a store with torch alone.

    python examples/torch_loop.py photos.dq --test photos/test --epochs 20

The stream reads every shard once an epoch, in a new order each time; workers read different shards.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import dq_fast as dq


def network(classes: int) -> nn.Sequential:
    """A small convolutional network for images of any size."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, classes))


def prepared(images: Tensor) -> Tensor:
    """Bytes [b, 3, h, w] as the network wants them."""
    return images.float().div_(127.5).sub_(1)


@torch.no_grad()
def accuracy(model: nn.Module, source: dq.Source, classes: Sequence[str]) -> float:
    """Share of a source's images that are classified rightly."""
    model.eval()
    number = {name: label for label, name in enumerate(classes)}  # a source may number its classes in another way
    right = 0
    for i in range(len(source)):
        image = torch.from_numpy(source.read(i)).permute(2, 0, 1)[None]
        right += int(model(prepared(image)).argmax()) == number[source.class_names[int(source.labels[i])]]
    return right / len(source)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, test, and return the accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="folder of a store whose images have one size")
    parser.add_argument("--test", required=True, help="images to test on: anything dq-fast reads")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parsed = parser.parse_args(arguments)

    torch.manual_seed(0)
    store = dq.open(parsed.store)
    loader = DataLoader(
        store.stream(batch_size=parsed.batch_size),
        batch_size=parsed.batch_size,
        num_workers=parsed.workers,
        persistent_workers=parsed.workers > 0,
    )
    model = network(len(store.class_names))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=parsed.epochs * len(loader))
    for _ in range(parsed.epochs):
        model.train()
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(prepared(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    reached = accuracy(model, dq.open_source(parsed.test, split="test"), store.class_names)
    print(f"{len(store)} images, {parsed.epochs} epochs: {reached:.1%} of the test images right")
    return reached


if __name__ == "__main__":
    main()
