"""Near-duplicates: MinHash signatures, and for each text the first earlier one that is like it.

Two texts are near-duplicates if the sets of their character 3-grams have a Jaccard similarity of
at least a threshold. A signature of 128 MinHash values estimates it with a standard error of at
most 0.044. Only texts that agree in all values of at least one *band* are compared (Leskovec,
Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3): each band's keys are sorted, so that
such texts lie side by side.

The search is our own because of its memory. For 2.4 million texts in 16 bands, the index of rensa
(which makes the signatures) was measured at 3.65 GiB, and it keeps none of the signatures (another
0.57 GiB) that tell how like two texts are; sorted bands take 1.1 GiB together with them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from rensa import RMinHash

VALUES = 128
SENSITIVE = 32
"""Bands of 4 values: find 98.8% of the pairs of similarity 0.6, 99.98% at 0.7. For thousands of
texts: long texts that have nothing in common but the language agree in one band in 2,000."""
COARSE = 16
"""Bands of 8 values: find 24% of the pairs at 0.6, 61% at 0.7, 95% at 0.8, 99.99% at 0.9. For
millions of texts: finer bands would give each of them thousands of false candidates."""
MARGIN = 0.15  # 3.4 standard errors: pairs this much below the threshold are still looked at


def signatures(normalised: list[str], seed: int) -> np.ndarray:
    """MinHash signatures of the texts' 3-grams, uint16 [n, VALUES].

    The lower half of each 32-bit value is kept: it is as random as the whole, and two different
    values agree in it only once in 65,536 times.
    """
    if not normalised:
        return np.empty((0, VALUES), dtype=np.uint16)
    grams, offsets = _grams(normalised)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        _mix(grams), offsets.astype(np.uint64), VALUES, seed
    )
    return (np.array(matrix.to_rows(), dtype=np.uint32) & 0xFFFF).astype(np.uint16)


def earlier_twins(
    signatures: np.ndarray,
    limits: np.ndarray,
    *,
    bands: int,
    similarity: float,
    normalised: list[str] | None = None,
) -> np.ndarray:
    """For each text the first one before its limit that is like it and has itself no twin.

    Args:
        signatures: uint16 [n, VALUES].
        limits: int [n], at most the text's own row: only rows below it can be its twin. 0: the
            text has none. -1: the text is left out, and is no other one's twin.
        bands: SENSITIVE or COARSE.
        similarity: estimated by the signatures; with `normalised` exact.
        normalised: the texts, to decide exactly. No pair is then wrong; few are missed.
    Returns:
        Row of the twin, int64 [n], -1 for none.
    """
    twins = np.full(len(signatures), -1, dtype=np.int64)
    order, begin = _sorted_bands(signatures, bands)
    grams, offsets = _grams(normalised or [])
    needed = similarity - MARGIN if normalised else similarity
    matches = max(1, int(np.ceil(needed * VALUES - 1e-9)))
    _find(signatures, limits, twins, order, begin, matches, grams, offsets, similarity)
    return twins


def _grams(normalised: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The 3-grams of all texts, a space at both ends, uint64 [m], and where texts begin [n + 1]."""
    lengths = np.array([0, *(len(text) for text in normalised)])
    offsets = np.cumsum(lengths)
    padded = "".join(f" {text} " for text in normalised).encode("utf-32-le")
    letters = np.frombuffer(padded, dtype=np.uint32).astype(np.uint64)
    grams = (letters[:-2] << 42) | (letters[1:-1] << 21) | letters[2:]
    starts = np.repeat(2 * np.arange(len(normalised)), lengths[1:])  # each padding has no 3-gram
    return grams[np.arange(offsets[-1]) + starts], offsets


def _mix(values: np.ndarray) -> np.ndarray:
    """A hash of 64-bit values (the finaliser of SplitMix64): letters alone are not random."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> 27)) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> 31)


def _sorted_bands(signatures: np.ndarray, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """For each band the rows with equal keys side by side, and where each row's equals begin.

    Returns:
        order, int32 [bands, n]: equals ascend. begin, int32 [bands, n]: a place in `order`.
    """
    count = len(signatures)
    order, begin = np.empty((2, bands, count), dtype=np.int32)
    bits = np.uint64(count.bit_length())
    for band, values in enumerate(np.split(signatures, bands, axis=1)):
        keys = np.zeros(count, dtype=np.uint64)
        for column in np.ascontiguousarray(values).view(np.uint64).T:
            keys = _mix(keys ^ column)
        # the row in the lower bits: one sort of whole numbers puts both in order
        keys <<= bits
        keys |= np.arange(count, dtype=np.uint64)
        keys.sort()
        order[band] = keys & ((np.uint64(1) << bits) - np.uint64(1))
        starts = np.flatnonzero(np.diff(keys >> bits, prepend=~np.uint64(0)))
        begin[band, order[band]] = np.repeat(starts, np.diff(starts, append=count))
    return order, begin


@njit(cache=True)
def _find(signatures, limits, twins, order, begin, matches, grams, offsets, similarity):
    """Fill `twins`, row by row."""
    for row in range(len(twins)):
        nearest = limits[row]
        for band in range(order.shape[0]):
            place = begin[band, row]
            while order[band, place] < nearest:  # ends at the row itself at the latest
                other = order[band, place]
                place += 1
                if limits[other] < 0 or twins[other] >= 0:
                    continue
                equal = 0
                for i in range(signatures.shape[1]):
                    equal += signatures[row, i] == signatures[other, i]
                if equal < matches:
                    continue
                if len(grams) == 0 or _jaccard(row, other, grams, offsets) >= similarity:
                    nearest = other
        if nearest < limits[row]:
            twins[row] = nearest


@njit(cache=True)
def _jaccard(row, other, grams, offsets):
    """Size of the intersection of two texts' sets of 3-grams over that of the union, in [0, 1]."""
    one = np.unique(grams[offsets[row] : offsets[row + 1]])
    two = np.unique(grams[offsets[other] : offsets[other + 1]])
    union = len(np.unique(np.concatenate((one, two))))
    return (len(one) + len(two) - union) / union
