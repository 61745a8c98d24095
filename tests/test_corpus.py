import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib import corpus, tables
from lib.cleaning import clean, text_id
from lib.errors import SourceUnavailable, UserError
from lib.schema import GoldDataParams
from lib.sources import SAMPLE_DIR
from made_up import (
    CLASSES,
    EMOJI,
    distinct_texts,
    portions,
    prepare,
    similarities,
    small_world,
    table,
)


def test_the_same_text_from_two_sources_has_one_id():
    gold, other = small_world()
    shared = other["text"].iloc[0]
    twin = table([shared.upper() + " &#128512;!"], source="another")
    _, kept, counts = prepare(gold, other, twin)
    assert text_id(shared) in set(kept["text_id"])
    assert kept["text_id"].is_unique
    columns = ["read", "duplicate in corpus", "kept in corpus"]
    assert counts.loc["another", columns].tolist() == [1, 1, 0]


def test_prepare_is_deterministic_and_its_splits_disjoint():
    gold, other = small_world()
    first = prepare(gold, other)
    second = prepare(gold.iloc[::-1], other.iloc[::-1])
    assert first[0]["text_id"].is_unique
    assert not set(first[0]["text_id"]) & set(first[1]["text_id"])
    for one, two in zip(first[:2], second[:2], strict=True):
        one, two = (f.sort_values("text_id").reset_index(drop=True) for f in (one, two))
        pd.testing.assert_frame_equal(one, two)
    assert list(first[0].columns) == tables.GOLD_COLUMNS
    assert list(first[1].columns) == tables.CORPUS_SCHEMA.names
    assert first[0].groupby(["label", "split"]).size().unstack().to_numpy().tolist() == (
        [[3, 15, 2]] * 3  # test 0.15, train, validation 0.1 of 20
    )


# --- what is dropped -------------------------------------------------------------------------


def test_contradicting_labels_go_and_agreeing_ones_become_one():
    gold, other = small_world()
    contested, agreed = distinct_texts(2, seed=99)
    extra = pd.concat(
        [
            table([contested], "positive", "gold", "x"),
            table([contested + "!"], "negative", "gold", "y"),
            table([agreed, agreed.upper()], "neutral", "gold", "x"),
        ]
    )
    kept, _, counts = prepare(gold, other, extra)
    assert text_id(contested) not in set(kept["text_id"])
    assert (kept["text_id"] == text_id(agreed)).sum() == 1
    assert counts.loc[["x", "y"], "contradicting labels"].tolist() == [1, 1]
    assert counts.loc["x", "duplicate in gold"] == 1


def test_rows_of_an_official_test_are_never_dropped():
    """Not for length, not as duplicates, not for contradictions: figures stay comparable."""
    gold, other = small_world()
    text = distinct_texts(1, seed=99)[0]
    near = text + " до"
    hard = ["ок", "а " * 20_000, text, text, near]
    labels = ["positive", "negative", "positive", "negative", "neutral"]
    official = table(hard, labels, "gold", "t", split="test")
    twins = table([text, near.upper()], ["positive", "neutral"], "gold", "t")
    copies = table([text + "!!!"], source="copy")
    kept, unlabelled, counts = prepare(gold, other, copies, twins, official)
    mine = kept[kept["source"] == "t"]
    assert sorted(mine["text"]) == sorted(clean(text) for text in hard)
    assert set(mine["split"]) == {"test"}
    assert counts.loc["t", "twin of a test text"] == 2
    assert "copy" not in set(unlabelled["source"])


def test_an_empty_text_is_dropped_from_every_split():
    gold, other = small_world()
    official = table(["", "\u200b ", "да"], "neutral", "gold", "t", split="test")
    kept, _, counts = prepare(gold, other, official, table([" "], source="x"))
    assert kept[kept["source"] == "t"]["text"].tolist() == ["да"]
    assert counts.loc[["t", "x"], "empty"].tolist() == [2, 1]


def test_lengths_are_counted_after_cleaning():
    gold, other = small_world()
    texts = ["аб\u200b\n ", "абв", "д" * 100, "е" * 101]
    _, kept, counts = prepare(gold, other, table(texts, source="x"), max_characters=100)
    assert kept[kept["source"] == "x"]["text"].tolist() == ["абв", "д" * 100]
    assert counts.loc["x", ["read", "too short", "too long"]].tolist() == [4, 1, 1]


def test_the_higher_rank_is_kept():
    """A text and its near-duplicate: test beats gold train beats corpus."""
    gold, other = small_world()
    one, two = distinct_texts(2, seed=99)
    official = table([one], "neutral", "gold", "t", split="test")
    train = table([one + " до", two], "neutral", "gold", "t", group="u")
    unlabelled = table([two + " до", two + " ка"], source="x")
    kept, rest, counts = prepare(gold, other, unlabelled, train, official)
    assert kept.loc[kept["source"] == "t", "text"].tolist() == [one, two]
    assert "x" not in set(rest["source"])
    assert counts.loc["t", "near-duplicate of a test text"] == 1
    assert counts.loc["x", "near-duplicate of a train text"] == 2


def test_audit_labels_are_numbers_or_missing():
    gold, other = small_world()
    texts = distinct_texts(4, seed=99)
    _, kept, _ = prepare(gold, other, table(texts, [*CLASSES, None], source="x"))
    found = kept[kept["source"] == "x"].set_index("text")["audit_label"]
    assert [found[text] for text in texts[:3]] == [0, 1, 2]
    assert found[texts[3]] is pd.NA


def test_max_corpus_holds_for_each_source():
    gold, other = small_world()
    more = table(distinct_texts(5, seed=99), source="d")
    _, kept, counts = prepare(gold, other, more, max_corpus=10)
    assert kept["source"].value_counts().to_dict() == {"c": 10, "d": 5}
    assert counts.loc["c", "over max_corpus"] == 20


# --- the leak test ---------------------------------------------------------------------------


def changed_surface(text, rng):
    """The same words in other case, with other punctuation and emoji."""
    tokens = re.findall(r"\w+", text)
    styles = (str.upper, str.lower, str.capitalize)
    glue = [" ", ", ", "!!! ", " — ", "... ", *(f" {emoji} " for emoji in EMOJI)]
    return "".join(rng.choice(styles)(token) + rng.choice(glue) for token in tokens)


def changed_word(text, rng):
    """The text with one small word replaced; None if it has fewer than eight words."""
    tokens = text.split(" ")
    small = [i for i, token in enumerate(tokens) if token.isalpha() and len(token) <= 4]
    if len(re.findall(r"\w+", text)) < 8 or not small:
        return None
    place = rng.choice(small)
    choices = [w for w in ("там", "тут", "вот", "же", "уже") if w != tokens[place].lower()]
    tokens[place] = rng.choice(choices)
    return " ".join(tokens)


@pytest.fixture(scope="module")
def planted():
    """Sample texts with 500 official test texts, and altered copies of these in the corpus."""
    rng = random.Random(0)
    gold, unrelated = (
        pd.read_csv(SAMPLE_DIR / f"{name}.csv").dropna(subset="text") for name in ("gold", "corpus")
    )
    gold = gold[gold["label"].notna()].sample(frac=1, random_state=0)
    tests = gold["text"][:500]
    surface = [changed_surface(text, rng) for text in tests]
    word = [changed for text in tests if (changed := changed_word(text, rng))]
    frames = [
        table(tests, list(gold["label"][:500]), "gold", "official", split="test"),
        table(gold["text"][500:], list(gold["label"][500:]), "gold", "rest"),
        table(surface, source="surface"),
        table(word, source="word"),
        table(unrelated["text"], source="unrelated"),
    ]
    rng.shuffle(frames)
    return tests, word, len(unrelated), prepare(*frames)


def test_every_planted_copy_in_other_case_and_punctuation_goes(planted):
    tests, _, _, (gold, unlabelled, counts) = planted
    assert (gold["source"] == "official").sum() == len(tests) == 500
    assert "surface" not in set(unlabelled["source"])
    assert counts.loc["surface", "read"] == 500


def test_nearly_every_planted_copy_with_one_other_word_goes(planted):
    _, word, _, (_, unlabelled, _) = planted
    assert len(word) >= 100
    assert (unlabelled["source"] == "word").sum() <= 0.05 * len(word)


def test_unrelated_texts_stay(planted):
    _, _, unrelated, (_, _, counts) = planted
    assert unrelated >= 1800
    lost = unrelated - counts.loc["unrelated", "kept in corpus"]
    assert lost <= 0.001 * unrelated


def test_nothing_held_out_is_near_to_what_is_trained_on(planted):
    *_, (gold, unlabelled, _) = planted
    splits = {name: rows["text"].tolist() for name, rows in gold.groupby("split")}
    below = [*splits["train"], *unlabelled["text"]]
    held_out = [*splits["test"], *splits["validation"]]
    assert len(held_out) > 500
    threshold = GoldDataParams().near_duplicate_similarity
    assert similarities(held_out, below).max() < threshold
    assert similarities(splits["test"], splits["validation"]).max() < threshold


# --- stopping and going on -------------------------------------------------------------------


def world_of_parts():
    """Portions with a few frames each; copies of texts lie in later parts."""
    gold, other = small_world(corpus_texts=40)
    more = distinct_texts(60, seed=5)
    frames = [
        table(more[:30], source="d"),
        table([*more[20:50], *(text + " до" for text in more[:10])], source="e"),
        table([text.upper() for text in more[30:]], source="f"),
    ]
    portion = portions(gold)[0]
    return [
        *portions(gold, other),
        dataclasses.replace(portion, name="many", frames=lambda: iter(frames)),
    ]


def run(directory, kill_at=None, **changes):
    """`prepare` in this process; with kill_at it kills itself after so many parts."""
    done = []

    def on_part(stage, rows):
        if stage != "gold":
            done.append((stage, rows))
        if len(done) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    prepared = corpus.prepare(world_of_parts(), directory, GoldDataParams(**changes), on_part)
    return prepared, done


def files_of(directory):
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_corpus import run
run(Path({directory!r}), kill_at={kill_at}, max_corpus=50)
"""


@pytest.mark.parametrize("kill_at", [1, 4, 6, 8, 9])
def test_killed_and_started_again_it_ends_the_same_and_repeats_nothing(tmp_path, kill_at):
    whole, done = run(tmp_path / "whole", max_corpus=50)
    assert len(done) == 10  # five parts read, then deduplicated
    directory = tmp_path / "killed"
    script = KILLED.format(
        tests=str(Path(__file__).parent), directory=str(directory), kill_at=kill_at
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert not (directory / corpus.SUMMARY).exists()
    prepared, rest = run(directory, max_corpus=50)
    assert rest == done[kill_at:]
    assert files_of(directory) == files_of(tmp_path / "whole")
    assert prepared.counts.to_json() == whole.counts.to_json()


def test_a_finished_step_is_not_done_again(tmp_path):
    first, _ = run(tmp_path)
    before = files_of(tmp_path)
    again, done = run(tmp_path)
    assert done == [] and files_of(tmp_path) == before
    assert again.counts.to_json() == first.counts.to_json()


def test_unavailable_sources_are_remembered(tmp_path):
    def unreachable():
        raise SourceUnavailable("no way there")
        yield

    portion = dataclasses.replace(portions(small_world()[0])[0], name="x", frames=unreachable)
    params = GoldDataParams(skip_unavailable=True)
    prepared = corpus.prepare([*world_of_parts(), portion], tmp_path, params)
    assert prepared.unavailable == {"sample": "no way there"}
    with pytest.raises(UserError, match="no text at all; no way there"):
        corpus.prepare([portion], tmp_path / "other", params)


# --- files -----------------------------------------------------------------------------------


def test_tables_have_the_promised_columns_and_types(tmp_path):
    run(tmp_path)
    gold = pd.read_parquet(tmp_path / "gold.parquet")
    assert list(gold.columns) == tables.GOLD_COLUMNS
    assert str(gold["label"].dtype) == "int64"
    parts = tables.corpus_parts(tmp_path / "corpus")
    assert [len(pd.read_parquet(part)) for part in parts[:2]] == [0, 40]
    unlabelled = tables.read_corpus(tmp_path / "corpus")
    assert list(unlabelled.columns) == tables.CORPUS_SCHEMA.names
    assert str(unlabelled["audit_label"].dtype) == "Int8"
    lengths = tables.text_lengths(gold, tmp_path / "corpus")
    assert lengths["characters"].tolist() == [
        *gold["text"].str.len(),
        *unlabelled["text"].str.len(),
    ]
    assert lengths["table"].value_counts().to_dict() == {
        "gold": len(gold),
        "corpus": len(unlabelled),
    }


def test_count_metrics_add_up():
    gold, _, counts = prepare(*small_world())
    found = {(m["dataset"], m["split"]): m["value"] for m in corpus.count_metrics(gold, counts)}
    assert found == {
        ("g", "test"): 9,
        ("g", "train"): 45,
        ("g", "validation"): 6,
        ("c", "corpus"): 30,
    }
