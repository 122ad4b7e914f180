"""Features and logits of every image: what selection is computed from."""

from dq_fast.embed.classifier import Classifier, load_classifier
from dq_fast.embed.extract import Embedding, embed
from dq_fast.embed.fit import FitResult, Recipe, train_classifier
from dq_fast.embed.gradient import gradient_embedding
from dq_fast.embed.register import register_lazily

__all__ = [
    "Classifier",
    "Embedding",
    "FitResult",
    "Recipe",
    "embed",
    "gradient_embedding",
    "load_classifier",
    "train_classifier",
]

register_lazily()  # so that timm.create_model("resnet20_cifar") works; does not import timm
