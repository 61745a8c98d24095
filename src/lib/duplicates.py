"""Near-duplicates: MinHash signatures and an LSH index that holds millions of texts.

Two texts are near-duplicates if the sets of their character 3-grams have a Jaccard similarity of
at least a threshold. A signature of 128 MinHash values estimates it with a standard error of at
most 0.044. The index finds the texts that agree in all values of at least one *band* (Leskovec,
Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3) and compares just their signatures.

The index is our own because of its memory: 16-bit values and open addressing take about 0.5 KB a
text, so that 2.4 million texts fit in little more than one gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit
from rensa import RMinHash
from tqdm import tqdm

VALUES = 128
SENSITIVE = 32
"""Bands of 4 values: find 98.8% of the pairs of similarity 0.6, 99.98% at 0.7. For thousands of
texts: long texts that have nothing in common but the language agree in one band in 2,000."""
COARSE = 16
"""Bands of 8 values: find 24% of the pairs at 0.6, 61% at 0.7, 95% at 0.8, 99.99% at 0.9. For
millions of texts: finer bands would give each of them thousands of false candidates."""
MARGIN = 0.15  # 3.4 standard errors: pairs this much below the threshold are still looked at
CHUNK = 20_000  # texts per batch; bounds memory


def shingles(normalised: str) -> frozenset[str]:
    """Character 3-grams of a normalised text, with a space at both ends."""
    padded = f" {normalised} "
    return frozenset(padded[i : i + 3] for i in range(max(1, len(padded) - 2)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over size of the union, in [0, 1]; two empty sets are equal."""
    common = len(one & other)
    union = len(one) + len(other) - common
    return common / union if union else 1.0


def signatures(normalised: list[str], seed: int) -> np.ndarray:
    """MinHash signatures of the texts' 3-grams, uint16 [n, VALUES].

    The lower half of each 32-bit value is kept: it is as random as the whole, and two different
    values agree in it only once in 65,536 times.
    """
    if not normalised:
        return np.empty((0, VALUES), dtype=np.uint16)
    padded = "".join(f" {text} " for text in normalised)
    letters = np.frombuffer(padded.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) + 2 for text in normalised])
    grams = (letters[:-2] << 42) | (letters[1:-1] << 21) | letters[2:]
    inside = np.ones(len(letters), dtype=bool)
    ends = np.cumsum(lengths)
    inside[ends - 1] = inside[ends - 2] = False  # 3-grams that reach into the next text
    offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths - 2, 0))]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        _mix(grams[inside[:-2]]), offsets, VALUES, seed
    )
    return (np.array(matrix.to_rows(), dtype=np.uint32) & 0xFFFF).astype(np.uint16)


def _mix(values: np.ndarray) -> np.ndarray:
    """A hash of 64-bit values (the finaliser of SplitMix64): letters alone are not random."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> 27)) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> 31)


class MinHashIndex:
    """Signatures of up to `capacity` texts, found by similarity. Rows are numbered as added."""

    def __init__(self, capacity: int, bands: int) -> None:
        size = 1 << max(4, int(np.ceil(np.log2(1.5 * max(capacity, 1)))))
        self._tables = np.zeros((bands, size), dtype=np.uint64)
        self._signatures = np.empty((capacity, VALUES), dtype=np.uint16)
        self._seen = np.zeros(capacity, dtype=np.uint32)  # last query that looked at a row
        self._queries = 0
        self.rows = 0

    def add(self, signatures: np.ndarray) -> None:
        """Add texts without looking for similar ones."""
        self._check_room(len(signatures))
        _add(signatures, self._tables, self._signatures, self.rows)
        self.rows += len(signatures)

    def candidates(
        self, signatures: np.ndarray, similarity: float, add: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Texts of the index that are probably similar to the given ones.

        Args:
            signatures: uint16 [n, VALUES].
            similarity: lowest estimated similarity.
            add: add each text after it was looked up, so that later ones find it.
        Returns:
            positions in `signatures` and rows of the index, int64 [m] each, ordered by position,
            then row.
        """
        self._check_room(len(signatures) if add else 0)
        queries, rows = _candidates(
            signatures,
            self._tables,
            self._signatures,
            self._seen,
            self._queries,
            self.rows,
            _matches(similarity),
            add,
        )
        self._queries += len(signatures)
        self.rows += len(signatures) if add else 0
        order = np.lexsort((rows, queries))
        return queries[order], rows[order]

    def add_new(self, signatures: np.ndarray, similarity: float) -> np.ndarray:
        """Add the texts that are unlike all before them, in order.

        Args:
            similarity: estimated similarity from which a text is not new.
        Returns:
            int64 [n]: for a new text -1; else the row of the most similar one, which is why the
            text was not added.
        """
        self._check_room(len(signatures))
        twins = _add_new(
            signatures,
            self._tables,
            self._signatures,
            self._seen,
            self._queries,
            self.rows,
            _matches(similarity),
        )
        self._queries += len(signatures)
        self.rows += int((twins < 0).sum())
        return twins

    def _check_room(self, count: int) -> None:
        """The compiled loops do not check where they write."""
        if self.rows + count > len(self._signatures):
            raise ValueError(
                f"{self.rows} + {count} texts are more than the index holds, "
                f"{len(self._signatures)}"
            )


def near_duplicate_pairs(
    normalised: list[str], similarity: float, seed: int
) -> Iterator[tuple[int, int]]:
    """Pairs of texts whose 3-grams have a Jaccard similarity of at least `similarity`.

    Each candidate is checked exactly, so no pair is wrong; few are missed (see SENSITIVE).

    Yields:
        (low, high), low < high, ordered by high.
    """
    index = MinHashIndex(len(normalised), SENSITIVE)
    with tqdm(total=len(normalised), desc="near-duplicates in gold", unit="text") as bar:
        for start in range(0, len(normalised), CHUNK):
            chunk = normalised[start : start + CHUNK]
            found = index.candidates(signatures(chunk, seed), similarity - MARGIN, add=True)
            for position, low in zip(*(array.tolist() for array in found), strict=True):
                high = start + position
                if is_similar(normalised[low], normalised[high], similarity):
                    yield low, high
            bar.update(len(chunk))


def is_similar(one: str, other: str, similarity: float) -> bool:
    """Whether two normalised texts are near-duplicates, exactly."""
    return jaccard(shingles(one), shingles(other)) >= similarity


def _matches(similarity: float) -> int:
    """How many values of two signatures must agree."""
    return max(1, int(np.ceil(similarity * VALUES - 1e-9)))


# Compiled loops. `tables` uint64 [bands, size] are hash tables with linear probing, one a band. An
# entry is the upper half of the band's hash, by which most other entries are told apart without
# reading their signature, and row + 1; 0 is an empty slot.


@njit(cache=True)
def _key(signature, band, width):
    key = np.uint64(0x9E3779B97F4A7C15)
    for i in range(band * width, band * width + width):
        key = (key ^ np.uint64(signature[i])) * np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(29)
    return key


@njit(cache=True)
def _insert(signature, tables, stored, row):
    stored[row] = signature
    mask = np.uint64(tables.shape[1] - 1)
    width = signature.shape[0] // tables.shape[0]
    for band in range(tables.shape[0]):
        key = _key(signature, band, width)
        slot = key & mask
        while tables[band, slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        tables[band, slot] = (key & np.uint64(0xFFFFFFFF00000000)) | np.uint64(row + 1)


@njit(cache=True)
def _similar(signature, tables, stored, seen, stamp, needed, rows, matches):
    """Fill `rows` and `matches` with the similar texts; their number, at most len(rows)."""
    mask = np.uint64(tables.shape[1] - 1)
    width = signature.shape[0] // tables.shape[0]
    count = 0
    for band in range(tables.shape[0]):
        key = _key(signature, band, width)
        slot = key & mask
        while tables[band, slot] != 0 and count < rows.shape[0]:
            entry = tables[band, slot]
            slot = (slot + np.uint64(1)) & mask
            if (entry ^ key) >> np.uint64(32) != 0:
                continue
            row = np.int64(entry & np.uint64(0xFFFFFFFF)) - 1
            if seen[row] == stamp:
                continue
            seen[row] = stamp
            equal = 0
            for i in range(signature.shape[0]):
                equal += stored[row, i] == signature[i]
            if equal >= needed:
                rows[count], matches[count] = row, equal
                count += 1
    return count


@njit(cache=True)
def _add(signatures, tables, stored, start):
    for i in range(signatures.shape[0]):
        _insert(signatures[i], tables, stored, start + i)


@njit(cache=True)
def _candidates(signatures, tables, stored, seen, stamp, start, needed, add):
    rows, matches = np.empty(4096, np.int64), np.empty(4096, np.int64)
    found_queries, found_rows = np.empty(1024, np.int64), np.empty(1024, np.int64)
    total = 0
    for i in range(signatures.shape[0]):
        count = _similar(
            signatures[i], tables, stored, seen, np.uint32(stamp + i + 1), needed, rows, matches
        )
        while total + count > found_rows.shape[0]:
            found_queries = np.concatenate((found_queries, np.empty_like(found_queries)))
            found_rows = np.concatenate((found_rows, np.empty_like(found_rows)))
        found_queries[total : total + count] = i
        found_rows[total : total + count] = rows[:count]
        total += count
        if add:
            _insert(signatures[i], tables, stored, start + i)
    return found_queries[:total], found_rows[:total]


@njit(cache=True)
def _add_new(signatures, tables, stored, seen, stamp, start, needed):
    rows, matches = np.empty(4096, np.int64), np.empty(4096, np.int64)
    twins = np.full(signatures.shape[0], -1, np.int64)
    added = 0
    for i in range(signatures.shape[0]):
        count = _similar(
            signatures[i], tables, stored, seen, np.uint32(stamp + i + 1), needed, rows, matches
        )
        if count == 0:
            _insert(signatures[i], tables, stored, start + added)
            added += 1
            continue
        best = 0
        for j in range(1, count):
            if matches[j] > matches[best] or (matches[j] == matches[best] and rows[j] < rows[best]):
                best = j
        twins[i] = rows[best]
    return twins
