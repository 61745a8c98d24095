"""Characteristic words of clusters: class-based TF-IDF over lemmas.

Lemmas come from pymorphy3, the kept-up successor of pymorphy2 with the OpenCorpora dictionary.
Lemmas and not stems: they read as words, and the dictionary's part of speech tells function words
from others, so that no list of stop words is needed. A word form is looked up once, however often
it occurs.

Reference: class-based TF-IDF: Grootendorst 2022, arXiv:2203.05794, section 3.3.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

WORD = re.compile(r"[^\W\d_]{2,}")
FUNCTION_WORDS = {"PREP", "CONJ", "PRCL", "NPRO"}  # prepositions, conjunctions, particles, pronouns
MAX_FORMS = 200_000  # word forms looked up: the most frequent ones
MIN_TEXTS = 2  # of the cluster: a word of a single text says nothing of a cluster


def cluster_words(
    texts: Iterable[str], assigned: np.ndarray, clusters: int, count: int
) -> list[list[str]]:
    """The most characteristic words of every cluster, the strongest first.

    A word counts once per text, so that one text that repeats it does not speak for its cluster.

    Args:
        texts: n texts; assigned: int [n], cluster of each.
        count: at most so many words per cluster; words that fewer than MIN_TEXTS of its texts
            have are left out.
    """
    vocabulary: dict[str, int] = {}
    forms, sizes = array("q"), array("q")
    for text in texts:
        found = set(WORD.findall(text.lower().replace("ё", "е")))
        forms.extend(vocabulary.setdefault(word, len(vocabulary)) for word in found)
        sizes.append(len(found))
    forms = np.frombuffer(forms, dtype=np.int64) if forms else np.empty(0, np.int64)
    rows = np.repeat(np.asarray(assigned, dtype=np.int64), np.asarray(sizes, dtype=np.int64))
    counts = _count(rows, forms, (clusters, len(vocabulary)))
    lemmas, of_form = _lemmas(list(vocabulary), np.bincount(forms, minlength=len(vocabulary)))
    known = np.flatnonzero(of_form >= 0)
    counts = counts[:, known] @ _count(np.arange(len(known)), of_form[known], (-1, len(lemmas)))
    return _strongest(counts, class_tf_idf(counts), lemmas, count)


def class_tf_idf(counts: csr_matrix) -> csr_matrix:
    """Weight of each word in each cluster: tf * log(1 + A / f).

    Args:
        counts: [clusters, words]; tf is a word's share of its cluster's words, f its count in all
            clusters, A the mean number of words per cluster (of those that have words).
    """
    weights = counts.astype(np.float64)
    in_cluster = np.asarray(weights.sum(1)).ravel()
    in_all = np.asarray(weights.sum(0)).ravel()
    mean = in_cluster.sum() / max(1, (in_cluster > 0).sum())
    idf = np.log1p(mean / np.maximum(in_all, 1))
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(weights.indptr))
    weights.data *= idf[weights.indices] / in_cluster[rows]
    return weights


def lemma(word: str) -> str | None:
    """Dictionary form of a word in lower case; None for a function word."""
    parse = _analyzer().parse(word)[0]
    if parse.tag.POS in FUNCTION_WORDS or "Apro" in parse.tag:  # Apro: этот, такой, весь
        return None
    return parse.normal_form.replace("ё", "е")


@cache
def _analyzer() -> Any:
    import pymorphy3  # loads its dictionary: only where it is used

    return pymorphy3.MorphAnalyzer(lang="ru")


def _lemmas(forms: Sequence[str], frequency: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Distinct lemmas, and the lemma int64 of every form; -1 for those without."""
    numbers: dict[str, int] = {}
    of_form = np.full(len(forms), -1, dtype=np.int64)
    places = np.argsort(-frequency, kind="stable")[:MAX_FORMS]
    for place in tqdm(places, desc="lemmas", leave=False, disable=len(places) < 20_000):
        if (found := lemma(forms[place])) is not None:
            of_form[place] = numbers.setdefault(found, len(numbers))
    return list(numbers), of_form


def _count(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    shape = (len(rows) if shape[0] < 0 else shape[0], shape[1])
    return csr_matrix((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape)


def _strongest(
    counts: csr_matrix, weights: csr_matrix, lemmas: list[str], count: int
) -> list[list[str]]:
    result = []
    for start, end in zip(counts.indptr, counts.indptr[1:], strict=False):
        words, weight = weights.indices[start:end], weights.data[start:end]
        often = counts.data[start:end] >= MIN_TEXTS
        words, weight = words[often], weight[often]
        best = np.lexsort((words, -weight))[:count]
        result.append([lemmas[word] for word in words[best]])
    return result
