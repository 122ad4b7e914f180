"""Position keys: where their files are, what seals a store, and their encryption with a passphrase.

A key file holds a shard's seed and masks. `seal.json`, in the same folder, holds a checksum of manifest.json, and the
manifest holds one of every other file: who keeps the keys in a safe place notices any change to the rest.

Encrypted, a key file is a header, then AES-256-GCM of what the plain file would be; the header, the shard's number and
its mosaic's SHA-256 are authenticated with it. The seal is then an HMAC that only the passphrase gives.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import struct
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dq_fast.errors import InputError, missing_extra

KEYS = "keys"  # the folder inside a store, unless keys are kept elsewhere
SEAL = "seal.json"
SEAL_FORMAT = "dq_fast keys"
SEAL_VERSION = 1
ENCRYPTION = {"cipher": "aes-256-gcm", "kdf": "scrypt"}
PLAIN_SUFFIX, ENCRYPTED_SUFFIX = "npy", "key"

_MAGIC = b"DQKEYS"
_HEADER_VERSION = 1
_HEADER = struct.Struct("<6sBBBB16s12s")  # magic, version, log2 n, r, p, salt, nonce
HEADER_BYTES = _HEADER.size
TAG_BYTES = 16
SALT_BYTES = 16
_NONCE_BYTES = 12
_LOG_N, _R, _P = 17, 8, 1  # OWASP's recommendation for scrypt (2^17, 8, 1): 128 MiB and about 0.4 s a guess
_LEAST_LOG_N, _MOST_LOG_N = 14, 20
_MOST_MEMORY = 1 << 30  # scrypt takes 128 · n · r bytes; what a foreign file may ask for
_MOST_PASSPHRASE = 1 << 16  # bytes
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Cost:
    """What deriving a key from a passphrase takes: scrypt's parameters (RFC 7914) and the salt.

    Attributes:
        log_n: binary logarithm of the cost n.
        r, p: block size and parallelism.
        salt: 16 random bytes of the store.
    """

    log_n: int
    r: int
    p: int
    salt: bytes

    @classmethod
    def new(cls) -> Cost:
        """The costs of a new store."""
        return cls(_LOG_N, _R, _P, os.urandom(SALT_BYTES))

    def check(self, name: str) -> Cost:
        """Refuse costs that would be no protection, or take the reader's memory."""
        if not (_LEAST_LOG_N <= self.log_n <= _MOST_LOG_N and 1 <= self.r <= 32 and 1 <= self.p <= 16):
            raise InputError(
                f"{name} must ask for scrypt with log2 n from {_LEAST_LOG_N} to {_MOST_LOG_N}, r up to 32 and p up to "
                f"16, got {self.log_n}, {self.r}, {self.p}: it is damaged, or made to hurt"
            )
        if (128 * self.r) << self.log_n > _MOST_MEMORY:
            raise InputError(f"{name} must ask for at most 1 GiB of memory, got {(128 * self.r) << self.log_n} bytes")
        return self

    def plain(self) -> dict[str, Any]:
        """As it stands in the seal."""
        return {**ENCRYPTION, "log2_n": self.log_n, "r": self.r, "p": self.p, "salt": self.salt.hex()}


@dataclass(frozen=True)
class KeyCipher:
    """Encrypts and decrypts the key files of one store, and seals its manifest."""

    cost: Cost
    _master: bytes = field(repr=False)

    @classmethod
    def derive(cls, passphrase: str, cost: Cost) -> KeyCipher:
        """The cipher that `passphrase` gives: scrypt of its UTF-8 bytes in normal form C."""
        secret = passphrase_bytes(passphrase)
        _need_cryptography()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        try:
            master = Scrypt(salt=cost.salt, length=32, n=1 << cost.log_n, r=cost.r, p=cost.p).derive(secret)
        except (MemoryError, UnsupportedAlgorithm) as error:
            raise InputError(
                f"the keys need {(128 * cost.r) << cost.log_n} bytes of memory for scrypt; got none: {error}"
            ) from None
        return cls(cost, master)

    def encrypt(self, content: bytes, shard: int, mosaic_sha256: str) -> bytes:
        """The key file with `content`, bound to its shard and mosaic."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        header = _HEADER.pack(_MAGIC, _HEADER_VERSION, self.cost.log_n, self.cost.r, self.cost.p, self.cost.salt, nonce)
        return header + AESGCM(self._part(b"keys")).encrypt(nonce, content, _bound(header, shard, mosaic_sha256))

    def decrypt(self, data: bytes, shard: int, mosaic_sha256: str, name: str) -> bytes:
        """What `encrypt` was given.

        Raises:
            InputError: this is no such file, or it was changed, or belongs to another shard, mosaic or passphrase.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        cost = header_cost(data, name)
        if cost != self.cost:
            raise InputError(f"{name} must have the store's salt and scrypt parameters, but has others: it is foreign")
        header = data[:HEADER_BYTES]
        try:
            return AESGCM(self._part(b"keys")).decrypt(
                header[-_NONCE_BYTES:], data[HEADER_BYTES:], _bound(header, shard, mosaic_sha256)
            )
        except InvalidTag:
            raise InputError(
                f"{name} cannot be decrypted: it was changed, or belongs to another shard, or another passphrase"
            ) from None

    def check_value(self) -> str:
        """16 bytes, as hex, that tell a wrong passphrase from a changed file, and nothing else."""
        return self._part(b"check").hex()[:32]

    def sign(self, manifest: bytes) -> str:
        """HMAC-SHA-256 of a manifest, as hex."""
        return hmac.new(self._part(b"seal"), manifest, hashlib.sha256).hexdigest()

    def _part(self, purpose: bytes) -> bytes:
        """A key for one purpose (HKDF-SHA-256, RFC 5869, no salt)."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), 32, salt=None, info=b"dq_fast store " + purpose).derive(self._master)


def header_cost(data: bytes, name: str) -> Cost:
    """Salt and costs from an encrypted key file's header, checked."""
    if len(data) < HEADER_BYTES + TAG_BYTES or data[: len(_MAGIC)] != _MAGIC:
        raise InputError(f"{name} must be an encrypted key file of dq_fast, but is something else, or cut off")
    _, version, log_n, r, p, salt, _ = _HEADER.unpack_from(data)
    if version != _HEADER_VERSION:
        raise InputError(f"{name} must be of key version {_HEADER_VERSION}, got {version}; a newer dq_fast reads it")
    return Cost(log_n, r, p, salt).check(name)


def passphrase_bytes(passphrase: str) -> bytes:
    """UTF-8 of the normal form C, so that the same characters typed elsewhere are the same passphrase."""
    if not isinstance(passphrase, str) or not passphrase:
        raise InputError("passphrase must be text of at least one character, got none")
    try:
        secret = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        raise InputError("passphrase must be text that UTF-8 can hold, got something else") from None
    if len(secret) > _MOST_PASSPHRASE:
        raise InputError(f"passphrase must be at most {_MOST_PASSPHRASE} bytes, got {len(secret)}")
    return secret


@dataclass(frozen=True)
class Keys:
    """Where a store's position keys are, and what opens them; goes wherever a folder of keys does (``keys=``).

    Attributes:
        folder: their folder; None is the one inside the store.
        passphrase: of encrypted keys.
        cipher: of keys that were opened already; what a pickled store hands to its workers instead of a passphrase.
    """

    folder: Path | None = None
    passphrase: str | None = field(default=None, repr=False)
    cipher: KeyCipher | None = field(default=None, repr=False)

    @classmethod
    def of(cls, keys: str | os.PathLike[str] | Keys | None, passphrase: str | None = None) -> Keys:
        """From what callers give."""
        if isinstance(keys, Keys):
            return keys if passphrase is None else Keys(keys.folder, passphrase)
        return cls(None if keys is None else Path(keys).absolute(), passphrase)


def seal_content(manifest: bytes, cipher: KeyCipher | None) -> dict[str, Any]:
    """The content of seal.json for a manifest's bytes."""
    seal: dict[str, Any] = {"format": SEAL_FORMAT, "version": SEAL_VERSION, "encryption": None}
    if cipher is None:
        return {**seal, "manifest": hashlib.sha256(manifest).hexdigest()}
    return {
        **seal,
        "encryption": cipher.cost.plain(),
        "check": cipher.check_value(),
        "manifest": cipher.sign(manifest),
    }


def check_seal(seal: Any, manifest: bytes, keys: Keys, where: Path) -> KeyCipher | None:
    """Whether a parsed seal.json is that of this manifest; the cipher, if keys are encrypted.

    Raises:
        InputError: the seal is none, of another manifest, or the passphrase is missing or wrong.
    """
    if not isinstance(seal, dict) or seal.get("format") != SEAL_FORMAT:
        raise InputError(f"{where} must be the seal of position keys, but is something else, or broken")
    if seal.get("version") != SEAL_VERSION or isinstance(seal.get("version"), bool):
        raise InputError(f"{where} must be of version {SEAL_VERSION}, got {seal.get('version')!r}; a newer dq_fast may")
    declared = _hex(seal, "manifest", 32, where)
    encryption = seal.get("encryption")
    cipher = None
    if encryption is None:
        if keys.passphrase is not None:
            raise InputError(f"passphrase must be left out: the keys in {where.parent} are not encrypted")
        actual = hashlib.sha256(manifest).hexdigest()
    else:
        cost = _seal_cost(encryption, where)
        cipher = _unlocked(keys, cost, where)
        if not hmac.compare_digest(cipher.check_value(), _hex(seal, "check", 16, where)):
            raise InputError(f"passphrase must be that of the keys in {where.parent}, got another: they stay closed")
        actual = cipher.sign(manifest)
    if not hmac.compare_digest(actual, declared):
        raise InputError(
            f"manifest.json must be the one that {where} seals, but is another: the store was changed since it was "
            f"written, or the keys are another store's"
        )
    return cipher


def _unlocked(keys: Keys, cost: Cost, where: Path) -> KeyCipher:
    if keys.cipher is not None and keys.cipher.cost == cost:
        return keys.cipher
    if keys.passphrase is None:
        raise InputError(
            f"the position keys in {where.parent} are encrypted: give their passphrase (passphrase=, or on the "
            f"command line --passphrase-file or the variable DQ_FAST_PASSPHRASE)"
        )
    return KeyCipher.derive(keys.passphrase, cost)


def _seal_cost(encryption: Any, where: Path) -> Cost:
    if not isinstance(encryption, dict) or any(encryption.get(name) != value for name, value in ENCRYPTION.items()):
        raise InputError(f"{where}: encryption must be {ENCRYPTION}, got {encryption!r}; a newer dq_fast may read it")
    numbers: list[int] = []
    for name in ("log2_n", "r", "p"):
        value = encryption.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{where}: {name} must be a whole number, got {value!r}")
        numbers.append(value)
    salt = bytes.fromhex(_hex(encryption, "salt", SALT_BYTES, where))
    return Cost(numbers[0], numbers[1], numbers[2], salt).check(str(where))


def _hex(holder: dict[str, Any], name: str, length: int, where: Path) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or len(value) != 2 * length or not _HEX.fullmatch(value):
        raise InputError(f"{where}: {name} must be {2 * length} lower-case hex digits, got {str(value)[:80]!r}")
    return value


def _bound(header: bytes, shard: int, mosaic_sha256: str) -> bytes:
    """What is authenticated beside a key's content."""
    return header + struct.pack("<Q", shard) + bytes.fromhex(mosaic_sha256)


def _need_cryptography() -> None:
    try:
        import cryptography
    except ImportError:
        raise missing_extra("cryptography", "keys", "encrypting position keys") from None
    del cryptography
