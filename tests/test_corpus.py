import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pandas as pd
import pyarrow.parquet as pq
import pytest

from lib import LABELS
from lib.data import corpus, sources, staging, tables
from lib.data.cleaning import clean
from lib.data.sources import SAMPLE_DIR
from lib.errors import UserError
from lib.parameters import GoldDataParams
from made_up import (
    CLASSES,
    EMOJI,
    distinct_texts,
    portions,
    prepare,
    run,
    similarities,
    small_world,
    table,
    text_id,
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
    """Portions of which one has several parts; copies of texts lie in later parts."""
    gold, other = small_world(corpus_texts=40)
    more = distinct_texts(60, seed=5)
    frames = [
        table(more[:30], source="d"),
        table([*more[20:50], *(text + " до" for text in more[:10])], source="e"),
        table([text.upper() for text in more[30:]], source="f"),
    ]
    return portions(gold, other, pd.concat(frames))


def run_parts(directory, kill_at=None):
    """Step 01 in parts of 60 rows: what it did; with kill_at it kills itself after so much."""
    done = []

    def watched(module, name):
        function = getattr(module, name)

        def call(*arguments, **options):
            result = function(*arguments, **options)
            done.append(name)
            if len(done) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return mock.patch.object(module, name, call)

    with (
        mock.patch.object(staging, "CHUNK", 60),
        watched(staging, "write_part"),
        watched(corpus, "build_gold"),
        watched(corpus, "write_corpus"),
        watched(pq, "write_table"),
    ):
        return run(directory, world_of_parts(), max_corpus=50), done


def files_of(directory):
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kill_at", [3, 6, 10, 13])
def test_killed_and_started_again_it_ends_the_same(tmp_path, kill_at):
    whole, done = run_parts(tmp_path / "whole")
    parts = ["write_table", "write_part"] * 4
    assert done == [*parts, "build_gold", "write_table", *["write_table", "write_corpus"] * 4]
    directory = tmp_path / "killed"
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        f"import test_corpus; test_corpus.run_parts(pathlib.Path({str(directory)!r}), {kill_at})"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not (directory / corpus.SUMMARY).exists()
    stray = [path for path in directory.rglob(".*") if path.is_file()]
    assert len(stray) == (kill_at != 6)  # it was killed before a file got its name
    again, rest = run_parts(directory)
    assert rest == done[min(kill_at // 2 * 2, 8) :]
    assert files_of(directory) == files_of(tmp_path / "whole")
    assert again == whole
    assert run_parts(directory)[1] == []  # it is done


@pytest.mark.parametrize("breaks", [False, True], ids=["whole", "ends anywhere"])
def test_a_file_that_changes_while_it_is_read_leaves_nothing(tmp_path, breaks):
    file = tmp_path / "a_train.csv"
    lines = [f"текст{i} слово{i * i},{LABELS[i % 3]}" for i in range(60)]
    file.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    params = GoldDataParams(sources=["local"], data_dir=str(tmp_path), local_labels="names")
    given = {"parameters": params.model_dump(mode="json"), "contents": sources.fingerprint(params)}
    write_part = staging.write_part

    def changing(*arguments):
        write_part(*arguments)
        file.write_text("text,label\n", encoding="utf-8")
        if breaks:
            raise UserError("a_train.csv, line 9: not readable as CSV (unexpected end of data)")

    (tmp_path / "out").mkdir()
    with (
        mock.patch.object(staging, "write_part", changing),
        pytest.raises(UserError, match=r"local: a_train\.csv \(gold\): changed while it was re"),
    ):
        corpus.prepare(tmp_path / "out", **given)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


# --- files -----------------------------------------------------------------------------------


def test_the_sample_as_a_part_of_the_process(tmp_path):
    params = GoldDataParams(sources=["sample"], validation_share=0.15, test_share=0.25)
    parameters, contents = params.model_dump(mode="json"), sources.fingerprint(params)
    corpus.prepare(tmp_path, parameters=parameters, contents=contents)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("corpus", "gold.parquet", "prepared.json"),
    ]
    gold = pd.read_parquet(tmp_path / "gold.parquet")
    assert list(gold.columns) == tables.GOLD_COLUMNS
    assert str(gold["label"].dtype) == "int64" and len(gold) > 700
    unlabelled = tables.read_corpus(tmp_path / "corpus")
    assert list(unlabelled.columns) == tables.CORPUS_SCHEMA.names
    assert str(unlabelled["audit_label"].dtype) == "Int8" and len(unlabelled) == 2000
    lengths = tables.text_lengths(gold, tmp_path / "corpus")
    both = pd.concat([gold.assign(table="gold"), unlabelled.assign(table="corpus")])
    assert lengths["characters"].tolist() == both["text"].str.len().tolist()
    assert lengths["table"].tolist() == both["table"].tolist()
