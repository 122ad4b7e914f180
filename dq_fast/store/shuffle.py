"""The order of patches in a mosaic: a permutation that only who has the shard's seed can draw.

SHAKE-256 is a cryptographic hash that any program has at hand (hashlib, OpenSSL, Go, Rust ...): without the seed its
output cannot be told from chance, and with it every program draws the same permutation.
"""

from __future__ import annotations

import hashlib
import os
import struct

import numpy as np
from numpy.typing import NDArray

SEED_BYTES = 32
_DOMAIN = b"dq_fast store shard seed\0"  # keeps these seeds apart from other uses of the same integer


def recorded_seed(seed: int, shard: int) -> bytes:
    """The shard's 32-byte seed drawn from the store's recorded integer seed: reproducible, and no secret."""
    return hashlib.sha256(_DOMAIN + struct.pack("<QQ", seed, shard)).digest()


def secret_seed() -> bytes:
    """A shard's 32-byte seed from the operating system's generator: nothing but the key file knows it."""
    return os.urandom(SEED_BYTES)


def permutation(seed: bytes, shard: int, n_patches: int) -> NDArray[np.int64]:
    """Mosaic cell c of the shard holds patch ``permutation[c]`` [m], patches counted image after image.

    The stable ascending argsort of m little-endian 64-bit numbers: SHAKE-256 of the seed and the shard's number
    (8 bytes, little-endian). Two equal numbers among 10^6 have a chance of 3e-8; stability then decides.
    """
    drawn = hashlib.shake_256(seed + struct.pack("<Q", shard)).digest(8 * n_patches)
    return np.argsort(np.frombuffer(drawn, "<u8"), kind="stable")
