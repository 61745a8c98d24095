import numpy as np
from scipy.sparse import csr_matrix

from lib.words import class_tf_idf, cluster_words


def test_weights_are_those_of_the_definition():
    counts = np.array([[3, 0, 1], [0, 2, 2], [0, 0, 0]])
    mean = 8 / 2  # words per cluster that has any
    expected = np.zeros((3, 3))
    for cluster in (0, 1):
        for word in range(3):
            tf = counts[cluster, word] / counts[cluster].sum()
            expected[cluster, word] = tf * np.log(1 + mean / counts[:, word].sum())
    np.testing.assert_allclose(class_tf_idf(csr_matrix(counts)).toarray(), expected)


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


def test_a_text_that_repeats_a_word_does_not_speak_for_its_cluster():
    texts = ["спам " * 50 + "спама спамом", "отель море", "отели моря", "море", "суп", "супы"]
    words = cluster_words(texts, np.array([0, 0, 0, 0, 1, 1]), 2, count=5)
    assert words == [["море", "отель"], ["суп"]]


def test_function_words_are_left_out():
    texts = ["и в на не это он кот", "и в на не это он кот", "И В НА НЕ ЭТО ещё её пёс"] * 2
    assert cluster_words(texts, np.array([0, 0, 1] * 2), 2, count=9) == [["кот"], ["пес"]]


def test_equal_texts_give_equal_words_whatever_the_order_of_a_set():
    texts = ["альфа бета гамма дельта"] * 4
    words = cluster_words(texts, np.array([0, 0, 1, 1]), 2, count=4)
    assert words[0] == words[1] == ["альфа", "бета", "гамма", "дельта"]


def test_without_words_there_are_none():
    assert cluster_words(["123", "!!!"], np.array([0, 1]), 2, 5) == [[], []]
    assert cluster_words([], np.array([], dtype=int), 2, 5) == [[], []]
