"""Made-up source rows, and independent results to compare with."""

import dataclasses
import random
import re
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer

from lib.data import cleaning, corpus, sources
from lib.data.counts import fates_table
from lib.data.registry import REGISTRY
from lib.data.sources import COLUMNS, Portion
from lib.data.tables import read_corpus
from lib.files import read_json
from lib.parameters import GoldDataParams

CLASSES = ("negative", "neutral", "positive")
EMOJI = ["😀", "❤️", "👍🏽", "🔥", "😡", "👨‍👩‍👧"]


def text_id(text):
    """The id of a text as it is written."""
    return cleaning.text_id(cleaning.normalise(text))


def grams(text):
    """Character 3-grams as the parameter's description says, written anew."""
    folded = unicodedata.normalize("NFKC", text).lower().replace("ё", "е")
    letters = "".join(c if c.isalnum() else " " for c in folded)
    padded = f" {' '.join(letters.split())} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def similarities(ones, others):
    """Exact Jaccard of every text of `ones` with every one of `others`, by a sparse product."""
    counter = CountVectorizer(analyzer=grams, binary=True, dtype=np.int32).fit([*ones, *others])
    one, other = counter.transform(ones), counter.transform(others)
    common = (one @ other.T).toarray()
    return common / (one.sum(1).A1[:, None] + other.sum(1).A1[None, :] - common)


def table(texts, label=None, role="corpus", source="s", split=None, group=None):
    """Source rows as lib.data.sources gives them."""
    frame = pd.DataFrame({"text": list(texts)}, dtype=object)
    frame["label"] = label
    frame["original_label"] = ""
    frame["source"], frame["group"] = source, group or source
    frame["role"], frame["split"] = role, split
    return frame.astype(object)[COLUMNS]


SYLLABLES = re.findall("..", "бавегудожизокалюменупореситуфахоцечушаэн")


def words(rng, count):
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(count))


def distinct_texts(count, seed=0, length=9):
    """Random texts, so long and so many syllables that no two are near-duplicates."""
    rng = random.Random(seed)
    return [words(rng, length) for _ in range(count)]


def small_world(per_class=20, corpus_texts=30, seed=0):
    """Gold with every class and a corpus, all texts unlike each other."""
    texts = distinct_texts(3 * per_class + corpus_texts, seed)
    gold = pd.concat(
        [
            table(texts[i * per_class : (i + 1) * per_class], label, "gold", "g")
            for i, label in enumerate(CLASSES)
        ]
    )
    return gold, table(texts[3 * per_class :], source="c")


@dataclasses.dataclass(frozen=True)
class MadeUp(Portion):
    """A portion whose rows come from a function."""

    make: Callable = iter

    def rows(self, commits):
        return self.make()


def portion(make, name="sample", russian=True):
    """A portion of what `make()` yields; the source is called `name`."""
    source = REGISTRY["sample"].model_copy(update={"name": name, "russian": russian})
    return MadeUp(source, "made up", "gold", make=make)


def portions(*frames, russian=True):
    """Frames of source rows as the portions of a run."""
    return [
        portion(lambda frame=frame: frame.itertuples(index=False, name=None), russian=russian)
        for frame in frames
    ]


def run(folder, given, **changes):
    """`corpus.prepare` on given portions: what prepared.json holds."""
    parameters = GoldDataParams(**changes).model_dump(mode="json")
    with mock.patch.object(sources, "portions", lambda params: given):
        corpus.prepare(folder, parameters=parameters, contents={"a": "b"})
    return read_json(folder / corpus.SUMMARY)


def prepare(*frames, **changes):
    """Gold, corpus and the table of fates of a run of step 01 on these frames."""
    with tempfile.TemporaryDirectory() as name:
        counts = fates_table(run(Path(name), portions(*frames), **changes)["counts"])
        gold = pd.read_parquet(Path(name) / "gold.parquet")
        unlabelled = read_corpus(Path(name) / "corpus")
        assert not (Path(name) / corpus.WORK).exists()
    check_counts(counts, gold, unlabelled)
    return gold, unlabelled, counts


def check_counts(counts, gold, unlabelled):
    """Nothing is lost uncounted: read = kept + dropped, for every source."""
    rest = counts.drop(columns="read")
    assert (counts["read"] == rest.sum(axis=1)).all()
    for column, frame in (("kept as gold", gold), ("kept in corpus", unlabelled)):
        sizes = frame["source"].value_counts().reindex(counts.index, fill_value=0)
        assert (counts[column] == sizes).all()
