"""Train on a store with Lightning (pip install lightning).

python examples/lightning_loop.py photos.dq --epochs 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import dq_fast as dq


class Images(lightning.LightningDataModule):
    """A store as training data."""

    def __init__(self, path: str, batch_size: int, workers: int) -> None:
        super().__init__()
        self.path, self.batch_size, self.workers = path, batch_size, workers

    def setup(self, stage: str) -> None:
        """Once in each process: the stream asks torch.distributed for its rank, and takes its share of the shards."""
        self.stream = dq.open(self.path).stream(batch_size=self.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Every epoch in another order."""
        return DataLoader(self.stream, batch_size=self.batch_size, num_workers=self.workers)


class Network(lightning.LightningModule):
    """A small convolutional network."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of bytes [b, 3, h, w]."""
        return self.layers(images.float().div(127.5).sub(1))

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        logits = self(images)
        self.log("accuracy", (logits.argmax(1) == labels).float().mean(), on_step=False, on_epoch=True)
        return nn.functional.cross_entropy(logits, labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.05)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy on the last epoch's training images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="folder of a store whose images have one size")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parsed = parser.parse_args(arguments)

    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_epochs=parsed.epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    data = Images(parsed.store, parsed.batch_size, parsed.workers)
    trainer.fit(Network(len(dq.open(parsed.store).class_names)), datamodule=data)
    reached = float(trainer.callback_metrics["accuracy"])
    print(f"{parsed.epochs} epochs: {reached:.1%} of the training images right in the last one")
    return reached


if __name__ == "__main__":
    main()
