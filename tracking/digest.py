"""Computes MD5 as W&B writes it, and the manifest digest that is an artifact version's identity."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tracking.interface import ArtifactFile, TrackingError

_BUFFER = 1 << 20  # bytes: files are streamed through it, however large they are


def manifest_digest(files: Mapping[str, ArtifactFile]) -> str:
    """Returns W&B's digest of an artifact, 32 hex digits.

    It is the MD5 over a header line and one `name:md5` line a file, by name, as the W&B SDK computes it.
    """
    md5 = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
    for name in sorted(files):
        md5.update(f"{name}:{files[name].md5}\n".encode())
    return md5.hexdigest()


def hash_file(path: Path) -> ArtifactFile:
    """Returns the size in bytes and the base64 MD5 of a file's content. Raises OSError."""
    with open(path, "rb") as source:
        return copy_hashed(source, None)


def copy_hashed(source: BinaryIO, target: BinaryIO | None) -> ArtifactFile:
    """Copies a stream and returns its size and MD5, in one pass; without a target it only hashes."""
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    buffer = memoryview(bytearray(_BUFFER))
    while count := source.readinto(buffer):  # type: ignore[attr-defined]  # typing.BinaryIO lacks it
        md5.update(buffer[:count])
        if target is not None:
            target.write(buffer[:count])
        size += count
    return ArtifactFile(size, base64.b64encode(md5.digest()).decode())


def md5_hex(md5: str) -> str:
    """Returns the 32 hex digits of a base64 MD5. Raises TrackingError for anything else."""
    try:
        digest = base64.b64decode(md5, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise TrackingError(f"{md5!r} is no base64 MD5: the store's database was altered")
    return digest.hex()
