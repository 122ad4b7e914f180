"""Features and logits of every image: what selection is computed from."""

from dq_fast.embed.gradient import gradient_embedding

__all__ = ["gradient_embedding"]
