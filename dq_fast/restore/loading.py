"""A store as torch's data sets: by index, and as a stream that decodes every shard once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from dq_fast.errors import InputError
from dq_fast.restore.images import Store
from dq_fast.store.layout import Pixels

KINDS = ("pil", "numpy", "tensor")
BUFFER_SHARDS = 8  # images of so many shards are shuffled together unless told: what `Store.shuffled` takes, too
_MOST_WORKERS = 1024

Transform = Callable[[Any], Any]


class _Items:
    """What both data sets do with an image and its label."""

    def __init__(
        self, store: Store, transform: Transform | None, target_transform: Transform | None, kind: str | None
    ) -> None:
        if not isinstance(store, Store):
            raise InputError(f"store must be a Store (dq.open), got {type(store).__name__}")
        if kind is not None and kind not in KINDS:
            raise InputError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.store = store
        self.transform = transform  # plain attributes: timm sets `transform` when it makes a loader
        self.target_transform = target_transform
        self.kind = kind
        self.classes = list(store.class_names)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}

    def _made(self, image: Pixels) -> Any:
        """What `transform` gets of an image that others may hold: always a copy, and only one."""
        kind = self.kind or ("pil" if self.transform is not None else "tensor")
        if kind == "pil":
            return Image.fromarray(image)
        if kind == "tensor":
            return torch.from_numpy(image.transpose(2, 0, 1).copy())  # half the time of torch's permute and contiguous
        return image.copy()

    def _item(self, made: Any, i: int) -> tuple[Any, Any]:
        """The item of image i, which `_made` made."""
        if self.transform is not None:
            made = self.transform(made)
        label: Any = int(self.store.labels[i])
        return made, label if self.target_transform is None else self.target_transform(label)


class StoreImages(_Items, Dataset):  # type: ignore[type-arg]
    """A store as a map-style data set: ``dataset[i] -> (transformed image, label)``, as torchvision's ImageFolder.

    Batches are read shard by shard. What was decoded stays in memory up to the store's `cache_bytes`, in each worker;
    workers forked later start with what was there already. Where the store does not fit, give the DataLoader
    ``sampler=store.shuffled(seed)`` instead of ``shuffle=True``, or take `StoreStream`.

    Args:
        store: an open store.
        transform: called with each image.
        target_transform: called with each label.
        kind: what an image is for `transform`: "pil" (what torchvision and timm take), "numpy" uint8 [h, w, 3], or
            "tensor" uint8 [3, h, w]. None: "pil" if there is a transform, else "tensor".

    Attributes:
        classes, class_to_idx, targets: as ImageFolder has them.
    """

    def __init__(
        self,
        store: Store,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        kind: str | None = None,
    ) -> None:
        super().__init__(store, transform, target_transform, kind)
        self.targets: list[int] = store.labels.tolist()

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self._item(self._made(self.store.view(i)), i)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Items of a batch: a shard is decoded once for it, even where the cache holds no more than one."""
        images = {i: self.store.view(i) for i in sorted({int(i) for i in indices})}
        return [self._item(self._made(images[int(i)]), int(i)) for i in indices]


class StoreStream(_Items, IterableDataset):  # type: ignore[type-arg]
    """A store as an iterable data set: shard after shard, shuffled in a buffer, shared among workers and ranks.

    Every epoch has an order of its own: the n-th time that the stream is iterated is epoch n (workers of a DataLoader
    count as one), unless `set_epoch` says which. Shards come in random order, their images go through a buffer, out of
    which they come at random. Workers and ranks get runs of whole shards but for their ends, so that hardly any shard
    is decoded twice; the order depends on `seed`, epoch, and the numbers of workers and ranks.

    Args:
        store: an open store.
        transform, target_transform, kind: as for `StoreImages`.
        shuffle: False is the store's order.
        seed: of the order.
        buffer: images in the shuffling buffer, in each worker; None: as many as eight shards hold on average.
        batch_size: of the DataLoader: workers then get whole batches, and only the last one of an epoch is short.
        rank, world_size: of distributed training; None asks torch.distributed, and is 0 of 1 where that is not in use.
            Every rank gets equally many images; to that end the first ones of the order may come twice.
    """

    def __init__(
        self,
        store: Store,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        kind: str | None = None,
        shuffle: bool = True,
        seed: int = 0,
        buffer: int | None = None,
        batch_size: int = 1,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(store, transform, target_transform, kind)
        if buffer is not None and buffer < 1:
            raise InputError(f"buffer must be at least 1 image, got {buffer}")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if (rank is None) != (world_size is None):
            raise InputError(f"rank and world_size must be given together, got {rank} and {world_size}")
        if rank is None or world_size is None:
            distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank = torch.distributed.get_rank() if distributed else 0
            world_size = torch.distributed.get_world_size() if distributed else 1
        if not 0 <= rank < world_size:
            raise InputError(f"rank must be from 0 to world_size - 1, got {rank} of {world_size}")
        self.shuffle = shuffle
        self.seed = seed
        self.buffer = max(1, BUFFER_SHARDS * len(store) // max(1, store.n_shards)) if buffer is None else buffer
        self.batch_size = batch_size
        self.rank, self.world_size = rank, world_size
        # Shared with workers, also those that live through epochs. Entry 0 is the epoch that was set, 1 + w how often
        # worker w began since: each has its own, so that all of them count the same.
        self._epoch = torch.zeros(1 + _MOST_WORKERS, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is, e.g. when training goes on from a checkpoint."""
        self._epoch[1:] = 0
        self._epoch[0] = epoch

    def __len__(self) -> int:
        """Images that this rank gets in an epoch."""
        return -(-len(self.store) // self.world_size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        if workers > _MOST_WORKERS:
            raise InputError(f"num_workers must be at most {_MOST_WORKERS}, got {workers}")
        epoch = int(self._epoch[0] + self._epoch[1 + worker])
        self._epoch[1 + worker] += 1
        mine = self._share(epoch, worker, workers)
        if not self.shuffle:
            return (self._item(self._made(self.store.view(i)), i) for i in mine.tolist())
        generator = np.random.default_rng([self.seed, epoch, self.rank, worker])
        return self._shuffled(mine.tolist(), generator)

    def _share(self, epoch: int, worker: int, workers: int) -> NDArray[np.int64]:
        """The images of one worker of this rank, in the order in which they are read."""
        shards = np.arange(self.store.n_shards)
        if self.shuffle:
            shards = np.random.default_rng([self.seed, epoch]).permutation(shards)
        runs = [np.asarray(self.store.images_of(int(shard))) for shard in shards]
        order = np.concatenate([np.zeros(0, np.int64), *runs])
        share = len(self)
        order = np.resize(order, share * self.world_size)[self.rank * share : (self.rank + 1) * share]
        batches = -(-share // self.batch_size)
        first, last = (part * batches // workers * self.batch_size for part in (worker, worker + 1))
        return order[first:last]

    def _shuffled(self, images: list[int], generator: np.random.Generator) -> Iterator[tuple[Any, Any]]:
        """Each new image takes the place of one drawn from the buffer, which goes out."""
        waiting: list[tuple[Any, int]] = []
        places = iter(generator.integers(0, self.buffer, size=max(0, len(images) - self.buffer)).tolist())
        for i in images:
            # a copy, since a view would keep its whole shard in memory until it goes out
            entry = (self._made(self.store.view(i)), i)
            if len(waiting) < self.buffer:
                waiting.append(entry)
                continue
            place = next(places)
            made, number = waiting[place]
            waiting[place] = entry
            yield self._item(made, number)
        for place in generator.permutation(len(waiting)).tolist():
            made, number = waiting[place]
            yield self._item(made, number)
