"""Characteristic words of clusters: class-based TF-IDF over stems.

Stems come from Snowball's Russian algorithm (PyStemmer). Lemmas by pymorphy3 read better but are
found at some 2,500 word forms per second against 93,000 stems: a minute against two seconds for the
139,000 forms of 73,000 real texts. Instead a stem is shown as the most frequent of its word forms.
Stems treat slang and misspelt words, which no dictionary has, like any other.

Reference: class-based TF-IDF: Grootendorst 2022, arXiv:2203.05794, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import Stemmer
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize
from tqdm import tqdm

from lib.clusters.map import stratified_sample
from lib.data.tables import read_texts
from lib.files import write_json

TEXTS = 200_000  # from which words are counted; more add minutes and change little
WORDS = 12  # per cluster
MIN_TEXTS = 2  # of the cluster: a word of a single text says nothing of a cluster
# words that hold sentences together, after Snowball's list of Russian stop words
FUNCTION_WORDS = """
без более бы был была были было быть вам вас ваш ваша вашей весь во вот все всегда всего всех вы где
да даже для до его ее если есть еще же за здесь из или им их как какая какой когда кто ли либо лишь
меня мне моего моей может мой мою моя мы на над надо нам нас наш наша нашей не него нее ней нет ни
них но ну об один он она они оно от перед по под после потом потому при про раз сам свой свою себе
себя со так такая также такие такой там тебе тебя тем теперь то тогда того тоже той только том тот
тут ты уже хоть чего чем через что чтоб чтобы чуть эта эти этих это этого этой этом этот эту
"""


def describe(folder: Path, *, corpus: Path, assigned: Path, clusters: int, seed: int) -> None:
    """Write words.json: WORDS words or fewer for every cluster.

    Args:
        corpus: folder of the corpus of 01; assigned: .npy file of int [n], cluster of each text.
        seed: of the sample of TEXTS texts.
    """
    of_text = np.load(assigned)
    rows = stratified_sample(of_text, TEXTS, seed)
    found = cluster_words(read_texts(corpus, rows), of_text[rows], clusters)
    write_json(folder / "words.json", found)


def cluster_words(
    texts: Sequence[str], assigned: np.ndarray, clusters: int, count: int = WORDS
) -> list[list[str]]:
    """The most characteristic words of every cluster, the strongest first.

    A word's weight is tf * log(1 + A / f): tf is its share of the cluster's words, f its count in
    all clusters, A the mean number of words per cluster. It counts once per text, so that one text
    that repeats it does not speak for its cluster.

    Args:
        texts: n texts; assigned: int [n], cluster of each.
        count: at most so many words per cluster; words that fewer than MIN_TEXTS of its texts
            have are left out.
    """
    counter = CountVectorizer(
        preprocessor=lambda text: text.lower().replace("ё", "е"),
        token_pattern=r"[^\W\d_]{2,}",
        stop_words=FUNCTION_WORDS.split(),
        binary=True,
    )
    progress = tqdm(texts, desc="words", leave=False, disable=len(texts) < 20_000)
    try:
        in_text = counter.fit_transform(progress)  # [texts, forms]
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return [[] for _ in range(clusters)]
    forms = counter.get_feature_names_out()
    of_form = Stemmer.Stemmer("russian").stemWords(forms.tolist())
    stems, stem = np.unique(of_form, return_inverse=True)
    frequent_last = np.argsort(-np.asarray(in_text.sum(0)).ravel(), kind="stable")[::-1]
    shown = np.empty(len(stems), dtype=object)
    shown[stem[frequent_last]] = forms[frequent_last]
    has_stem = (in_text @ _groups(stem, len(stems)).T).sign()  # two forms in a text count once
    counts = _groups(assigned, clusters) @ has_stem  # [clusters, stems]
    filled = (counts.sum(1) > 0).sum()
    idf = np.log1p(counts.sum() / filled / np.asarray(counts.sum(0)))
    weights = normalize(counts.astype(float), norm="l1").multiply(idf)
    weights = weights.multiply(counts >= MIN_TEXTS).tocsr()
    rows = (weights[cluster] for cluster in range(clusters))
    best = (row.indices[np.lexsort((row.indices, -row.data))[:count]] for row in rows)
    return [shown[found].tolist() for found in best]


def _groups(group: np.ndarray, count: int) -> csr_matrix:
    """The 0/1 matrix [count, n] of n things and the group that each is in."""
    things = np.arange(len(group))
    return csr_matrix((np.ones(len(group), np.int64), (group, things)), (count, len(group)))
