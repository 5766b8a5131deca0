"""Messages that did not arrive, or may not have: which row of a file each is from, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import batched_ids
