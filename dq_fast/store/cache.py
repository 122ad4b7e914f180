"""Decoded shards in memory: least recently used ones go first; safe for threads and forked processes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class ShardCache(Generic[Entry]):
    """Entries by number, up to a number of bytes; at least one is kept.

    Two threads that want the same missing entry make it once. A forked process starts with its parent's entries, which
    it shares until either forgets them, and with locks of its own: whoever held the parent's is not there.

    Args:
        limit: bytes.
        size: of an entry, bytes.
    """

    def __init__(self, limit: int, size: Callable[[Entry], int]) -> None:
        self._limit = limit
        self._size = size
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._used = 0
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._making: dict[int, threading.Lock] = {}

    def get(self, number: int, make: Callable[[int], Entry]) -> Entry:
        """The entry, made where it is missing; different ones are made by several threads at the same time."""
        if self._process != os.getpid():
            self._renew()
            self._entries = OrderedDict(self._entries)  # the fork may have come in the middle of a change
            self._used = sum(self._size(entry) for entry in self._entries.values())
        with self._lock:
            if number in self._entries:
                self._entries.move_to_end(number)
                return self._entries[number]
            making = self._making.setdefault(number, threading.Lock())
        with making:
            with self._lock:
                if number in self._entries:
                    return self._entries[number]
            try:
                entry = make(number)
                with self._lock:
                    self._put(number, entry)
            finally:
                with self._lock:
                    self._making.pop(number, None)
        return entry

    def _put(self, number: int, entry: Entry) -> None:
        self._entries[number] = entry
        self._used += self._size(entry)
        while self._used > self._limit and len(self._entries) > 1:
            self._used -= self._size(self._entries.popitem(last=False)[1])

    def __contains__(self, number: int) -> bool:
        return number in self._entries
