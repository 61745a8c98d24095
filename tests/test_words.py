from __future__ import annotations

import numpy as np
import pandas as pd

from lib.clusters.words import cluster_words, describe
from lib.data.tables import write_corpus
from lib.files import read_json


def test_characteristic_words_are_those_of_the_topic():
    texts = [
        "Банк выдал кредит, и это хорошо",
        "В банке взяли кредиты. Хорошо!",
        "КРЕДИТ банк хорошо",
        "Актёр сыграл хорошо",
        "актеры играли хорошо, актёр",
        "Хорошо",
    ]
    words = cluster_words(texts, np.array([0, 0, 0, 2, 2, 2]), 4, count=3)
    # a stem is shown as its most frequent form; the two verbs are in one text each
    assert words[0] == ["банк", "кредит", "хорошо"]
    assert words[2] == ["актер", "хорошо"]
    assert words[1] == words[3] == []


def test_words_are_ordered_by_class_based_tf_idf():
    """By hand: tf * log(1 + A / f) with A = (7 + 5) / 2 words per cluster."""
    texts = ["кот пёс дом", "кот пёс", "кот", "дом", "дом лес", "дом", "лес", "лес"]
    assigned = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    counts = {0: {"кот": 3, "пес": 2, "дом": 2}, 1: {"лес": 3, "дом": 2}}
    of_all = {"кот": 3, "пес": 2, "дом": 4, "лес": 3}
    for cluster, found in enumerate(cluster_words(texts, assigned, 2)):
        total = sum(counts[cluster].values())
        weight = {w: n / total * np.log(1 + 6 / of_all[w]) for w, n in counts[cluster].items()}
        assert found == sorted(weight, key=weight.get, reverse=True)


def test_a_text_that_repeats_a_word_does_not_speak_for_its_cluster():
    texts = ["спам " * 50 + "спама спамом", "отель море", "отели моря", "море", "суп", "супы"]
    words = cluster_words(texts, np.array([0, 0, 0, 0, 1, 1]), 2, count=5)
    assert words == [["море", "отели"], ["суп"]]  # of equally frequent forms the first


def test_function_words_are_left_out():
    texts = ["и в на не это он кот", "и в на не это он кот", "И В НА НЕ ЭТО ещё её пёс"] * 2
    assert cluster_words(texts, np.array([0, 0, 1] * 2), 2) == [["кот"], ["пес"]]


def test_clusters_without_any_word():
    assert cluster_words(["😊", "и не на", "!!! 5"], np.array([0, 1, 1]), 3) == [[], [], []]


def test_the_part_describes_every_cluster(tmp_path):
    texts = ["вкусный суп", "суп остыл", "море и пляж", "пляж у моря", "<b>$x$</b>"]
    rows = {"text_id": [f"{i:016x}" for i in range(5)], "text": texts, "source": "s"}
    write_corpus(pd.DataFrame(rows).assign(audit_label=None), tmp_path / "part-00000.parquet")
    np.save(tmp_path / "assigned.npy", np.array([1, 1, 0, 0, 2]))
    arguments = {"corpus": tmp_path, "assigned": tmp_path / "assigned.npy", "seed": 0}
    describe(tmp_path, clusters=4, **arguments)
    found = read_json(tmp_path / "words.json")
    assert set(found[0]) == {"пляж", "море"} or set(found[0]) == {"пляж", "моря"}
    assert found[1:] == [["суп"], [], []]
