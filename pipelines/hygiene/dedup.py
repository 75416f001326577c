"""Exact duplicates, up to case, width of characters and spaces."""

import hashlib

from pipelines.hygiene.text import normal


class Seen:
    """Remembers texts by the hash of their normal form."""

    def __init__(self) -> None:
        self._hashes: set[bytes] = set()

    def add(self, *texts: str) -> bool:
        """Whether these texts together are new; from now on they are not."""
        digest = hashlib.sha256("\n\0".join(map(normal, texts)).encode("utf-8", "surrogatepass"))
        new = digest.digest() not in self._hashes
        self._hashes.add(digest.digest())
        return new
