"""What a classifier reaches when it is trained on a data set, a store, or a random part."""

from dq_fast.train.subset import random_subset
from dq_fast.train.training import TrainResult, train

__all__ = ["TrainResult", "random_subset", "train"]
