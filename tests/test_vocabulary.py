"""A base model with fewer tokens that reads the corpus as before; `python -m lib trim`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertTokenizer,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

from conftest import SENTENCES, tiny_tokenizer
from lib.__main__ import main
from lib.data.sources import SAMPLE_DIR
from lib.errors import UserError
from lib.models import embedded, vocabulary
from lib.models.encoder import new_classifier
from lib.models.inference import predict

CPU = {"dtype": torch.float32, "device": torch.device("cpu")}
CORPUS = SENTENCES[:4]
WORDS = sorted({word for text in SENTENCES for word in text.split()})
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """A small copy of Gemma's kind: `▁` for spaces, no words, bytes for unknown characters, and
    merges for every way to put a token together."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    texts = [*SENTENCES, *(SENTENCES[i] + " " + SENTENCES[-i] for i in range(1, 4))]
    trained.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=260, show_progress=False))
    pieces = sorted(trained.get_vocab().items(), key=lambda entry: entry[1])
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *BYTES, *(piece for piece, _ in pieces)]
    ids = {piece: number for number, piece in enumerate(names)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece, _ in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    tokenizer = Tokenizer(
        models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
    )


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """Pieces and scores made up so that there are ties and overlapping paths."""
    characters = sorted({character for text in SENTENCES for character in "▁" + text} - set(" 😊"))
    rng = np.random.default_rng(0)
    parts = {w[a : a + n] for w in WORDS for a in range(len(w)) for n in (2, 3, 4, 6)} | set(WORDS)
    pieces = sorted({*parts, *("▁" + part for part in parts)} - set(characters))
    scores = -rng.integers(3, 9, len(pieces)).astype(float)
    vocabulary = [("<unk>", 0.0), ("<pad>", 0.0)]
    vocabulary += [(character, -9.0) for character in characters]
    vocabulary += zip(pieces, scores.tolist(), strict=True)
    vocabulary.append(("☃☃", -14.0))  # the lowest score, on which the unknown's price hangs
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Replace("▁", " ")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")


TOKENIZERS = {
    "BPE": tiny_tokenizer(),
    "BPE with byte fallback": byte_fallback_tokenizer(),
    "Unigram": unigram_tokenizer(),
}
each_kind = pytest.mark.parametrize("full", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def trimmed(
    full: PreTrainedTokenizerFast, texts: list[str] = CORPUS, **options
) -> tuple[np.ndarray, PreTrainedTokenizerFast]:
    counts = vocabulary.count_tokens(full, texts)
    kept = vocabulary.select_tokens(full, counts, **options)
    return kept, vocabulary.trim_tokenizer(full, kept)


@each_kind
def test_counts_are_those_of_the_tokenizer(full):
    expected = np.zeros(len(full), dtype=int)
    for text in SENTENCES:
        for token in full(text, add_special_tokens=False)["input_ids"]:
            expected[token] += 1
    assert vocabulary.count_tokens(full, iter(SENTENCES)).tolist() == expected.tolist()


TEXTS = st.one_of(
    st.lists(st.sampled_from(" ".join(CORPUS).split()), min_size=1, max_size=8).map(" ".join),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    st.text(st.sampled_from("одвелнитсч ,😊日ñ☃"), min_size=1, max_size=12),
)


@pytest.mark.parametrize("min_count", [1, 2])
@each_kind
def test_texts_of_kept_tokens_stay_the_same(full, min_count):
    kept, small = trimmed(full, min_count=min_count)
    assert len(small) == len(kept) < len(full)
    seen = {"same": 0, "other": 0}

    @settings(max_examples=150, derandomize=True)
    @given(TEXTS)
    def check(text):
        expected = full(text)["input_ids"]
        found = small(text)["input_ids"]
        old = kept[found].tolist()
        assert small.convert_ids_to_tokens(found) == full.convert_ids_to_tokens(old)
        if set(expected) <= set(kept.tolist()):
            seen["same"] += 1
            assert old == expected
            assert small.decode(found) == full.decode(expected)
        else:
            seen["other"] += 1

    check()
    assert min(seen.values()) >= 5, seen


@pytest.mark.parametrize("name", ["BPE", "BPE with byte fallback"])
def test_merges_stay_closed_and_in_order(name):
    full = TOKENIZERS[name]
    counts = vocabulary.count_tokens(full, SENTENCES)
    parts = 0
    for min_count in range(1, 8):
        kept = vocabulary.select_tokens(full, counts, min_count=min_count)
        small = vocabulary.trim_tokenizer(full, kept)
        old, new = (vocabulary._read(each)[0]["model"] for each in (full, small))
        assert all({*pair, "".join(pair)} <= new["vocab"].keys() for pair in new["merges"])
        places = [old["merges"].index(pair) for pair in new["merges"]]
        assert places == sorted(places)
        for piece in new["vocab"]:  # what the full model makes of a token's text, so does this one
            if [token.value for token in full.backend_tokenizer.model.tokenize(piece)] == [piece]:
                tokens = small.backend_tokenizer.model.tokenize(piece)
                assert [token.value for token in tokens] == [piece]
        pieces = full.convert_ids_to_tokens(kept[counts[kept] == 0].tolist())
        parts += sum(len(piece) > 1 and piece[0] not in "<[" for piece in pieces)
    assert parts > 0  # some tokens are there only because others are merged from them


def test_merge_parts_by_hand():
    ranks = {("a", "b"): 0, ("c", "d"): 1, ("ab", "cd"): 2, ("b", "c"): 3, ("a", "bc"): 4}
    assert vocabulary.merge_parts("abcd", ranks) == {"a", "b", "c", "d", "ab", "cd", "abcd"}
    assert vocabulary.merge_parts("abc", ranks) == {"abc"}  # ab comes first: never made
    assert vocabulary.merge_parts("bc", ranks) == {"b", "c", "bc"}
    assert vocabulary.merge_parts("<0x0A>", ranks) == {"<0x0A>"}


@each_kind
def test_specials_characters_and_bytes_are_always_kept(full):
    kept, small = trimmed(full, ["день"], min_count=1000)
    pieces = {full.convert_ids_to_tokens(int(old)) for old in kept}
    assert set(full.all_special_tokens) <= pieces
    assert small.special_tokens_map == full.special_tokens_map
    for name, text in full.special_tokens_map.items():
        assert small.convert_ids_to_tokens(getattr(small, f"{name}_id")) == text
    assert set("день") <= pieces
    longer = {piece for piece in pieces if len(piece) > 1}
    byte_tokens = set(BYTES) & set(full.get_vocab())
    assert longer == set(full.all_special_tokens) | byte_tokens | ({"☃☃"} & set(full.get_vocab()))


def test_added_tokens_stay_if_they_are_special_or_used():
    full = tiny_tokenizer()
    full.add_tokens(["<used>", "<unused>"])
    full.add_special_tokens({"bos_token": "<start>"})
    kept, small = trimmed(full, ["день <used> день"])
    assert small.get_added_vocab().keys() == full.get_added_vocab().keys() - {"<unused>"}
    text = "день<used>день"
    assert small.tokenize(text) == full.tokenize(text)
    assert kept[small(text)["input_ids"]].tolist() == full(text)["input_ids"]
    assert small.bos_token_id == kept.tolist().index(full.bos_token_id)


def test_letters_of_other_scripts_are_kept_only_if_the_corpus_has_them():
    names = ["<unk>", "日", "本", "я", "z", "é", "😊", "7", "!", "ק"]
    scored = [(name, -float(place)) for place, name in enumerate(names)]
    full = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram([*scored, ("last", -99.0)], unk_id=0)),
        unk_token="<unk>",
    )
    kept, _ = trimmed(full, ["本"])
    assert [names[i] for i in kept[:-1]] == ["<unk>", "本", "я", "z", "é", "😊", "7", "!"]


def test_every_token_of_an_alphabet_is_kept():
    """Words and parts of words; of a byte-level BPE, too."""
    letters = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
    names = ["<unk>", "▁да", "нет", "ЁЖ", "▁", "дa (Latin)", "їжак", "yes", "да!"]
    tokenizer = Tokenizer(models.Unigram([(name, -float(i)) for i, name in enumerate(names)], 0))
    tokenizer.decoder = decoders.Metaspace()
    full = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    kept, _ = trimmed(full, [], letters=letters)
    assert [names[i] for i in kept] == ["<unk>", "▁да", "нет", "ЁЖ", "▁", "да!"]  # the last: score
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<unk>"],
        show_progress=False,
    )
    trained.train_from_iterator([*SENTENCES, *["good telephone"] * 9], trainer)
    full = PreTrainedTokenizerFast(tokenizer_object=trained, unk_token="<unk>")
    kept, _ = trimmed(full, [], letters=letters)
    text = full.batch_decode([[token] for token in range(len(full))])
    russian = {
        i for i, word in enumerate(text) if word.strip() and {*word.strip().lower()} <= {*letters}
    }
    assert max(len(text[i]) for i in russian) > 4 and "good" in {word.strip() for word in text}
    assert russian <= set(kept.tolist()) and "good" not in {text[i].strip() for i in kept}


@each_kind
def test_rarer_tokens_are_dropped_first(full):
    counts = vocabulary.count_tokens(full, SENTENCES)
    before = set(range(len(full)))
    for min_count in (1, 2, 3, 1000):
        kept = set(vocabulary.select_tokens(full, counts, min_count=min_count).tolist())
        assert set(np.flatnonzero(counts >= min_count)) <= kept <= before
        before = kept
    assert len(kept) < len(full)  # special tokens and characters


def test_a_wordpiece_tokenizer_cannot_be_trimmed(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nдень\n##ги\n")
    with pytest.raises(UserError, match="WordPiece tokenizer cannot be trimmed"):
        vocabulary.count_tokens(BertTokenizer(str(tmp_path / "vocab.txt")), ["день"])


def test_the_configuration_names_the_new_ids():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    names = {"pad_token_id": 9, "eos_token_id": 12, "bos_token_id": 3}
    model = ModernBertModel(ModernBertConfig(vocab_size=20, intermediate_size=8, **sizes, **names))
    before = model.get_input_embeddings().weight.detach().clone()
    vocabulary.trim_model(model, np.array([5, 9, 12]))
    table = model.get_input_embeddings()
    assert torch.equal(table.weight, before[[5, 9, 12]]) and table.padding_idx == 1
    assert [getattr(model.config, name) for name in names] == [1, 2, None]
    assert model.config.vocab_size == 3


def test_trimmed_e5_gives_the_same_vectors(embedded_cache):
    path = embedded.checkpoint(embedded_cache)
    model, full = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    texts = pd.read_csv(SAMPLE_DIR / "corpus.csv")["text"].tolist()[:300]
    shown = [texts[i] for i in (0, 17, 95, 180)]
    with torch.no_grad():
        inputs = full(shown, padding=True, return_tensors="pt")
        expected = model(**inputs).last_hidden_state
        kept, small = trimmed(full, texts)
        vocabulary.trim_model(model, kept)
        inputs = small(shown, padding=True, return_tensors="pt")
        found = model(**inputs).last_hidden_state
    assert len(kept) < 10_000
    mask = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=0)
    for text in texts:
        assert kept[small(text)["input_ids"]].tolist() == full(text)["input_ids"]
    assert kept[small.pad_token_id] == full.pad_token_id


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.parquet"
    pd.DataFrame({"text": SENTENCES[:5]}).to_parquet(path)
    return path


def test_a_trimmed_checkpoint_is_a_base_model(tiny_checkpoint, corpus, tmp_path):
    out = tmp_path / "models" / "trimmed"
    done = vocabulary.trim(tiny_checkpoint, [corpus], out)
    full, small = (
        new_classifier(path, pooling="mean", max_tokens=64, seed=0)
        for path in (tiny_checkpoint, out)
    )
    expected = predict(full, full.tokenize(SENTENCES[:5]), **CPU)
    found = predict(small, small.tokenize(SENTENCES[:5]), **CPU)
    for one, other in zip(expected, found, strict=True):
        assert abs(one - other).max() < 1e-5
    tokens = [len(encoder.tokenizer) for encoder in (full, small)]
    assert re.findall(r"([\d,]+) tokens,", done) == [str(n) for n in tokens]
    assert tokens[1] < tokens[0] and "100.00% of the corpus's tokens" in done
    assert small.model.config.vocab_size == tokens[1]
    assert [path.name for path in out.parent.iterdir()] == ["trimmed"]
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert str(Path(tiny_checkpoint).parent) not in (out / "config.json").read_text()


def test_a_part_of_a_corpus_may_be_empty(tiny_checkpoint, corpus, tmp_path):
    empty = tmp_path / "part-00000.parquet"
    pd.DataFrame({"text": pd.Series([], dtype=str)}).to_parquet(empty)
    done = vocabulary.trim(tiny_checkpoint, [empty, corpus], tmp_path / "out")
    assert done == vocabulary.trim(tiny_checkpoint, [corpus], tmp_path / "other")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"broken\.parquet"):
        vocabulary.trim(tiny_checkpoint, [broken], tmp_path / "third")


def test_the_command_prints_sizes(tiny_checkpoint, corpus, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["trim", tiny_checkpoint, "--corpus", str(corpus), "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "before: " in printed and "after:  " in printed and "million parameters" in printed
    assert main(command) == 2
    assert f"--out: {out} is there already" in capsys.readouterr().err


def test_bad_input_is_named(tiny_checkpoint, corpus, tmp_path):
    out, bad = tmp_path / "out", tmp_path / "bad.csv"
    bad.write_text("message\nпривет\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"bad.csv: no column 'text'"):
        vocabulary.trim(tiny_checkpoint, [corpus, bad], out)
    with pytest.raises(UserError, match=r"--corpus: .*missing.parquet is not a csv, .* file"):
        vocabulary.trim(tiny_checkpoint, [tmp_path / "missing.parquet"], out)
    with pytest.raises(UserError, match=r"base_model: cannot load .* give the local directory"):
        vocabulary.trim(str(tmp_path), [corpus], out)
    assert not out.exists()
