from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertTokenizer,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

from conftest import SENTENCES, tiny_tokenizer
from lib.data.sources import SAMPLE_DIR
from lib.errors import UserError
from lib.models import embedded, vocabulary

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


def test_with_bytes_every_text_can_be_read_back():
    full = TOKENIZERS["BPE with byte fallback"]
    _, small = trimmed(full, min_count=3)

    @settings(max_examples=100, derandomize=True)
    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), max_size=20))
    def check(text):
        assert small.decode(small(text)["input_ids"]) == text

    check()


@pytest.mark.parametrize("name", ["BPE", "BPE with byte fallback"])
def test_merges_stay_closed_and_in_order(name):
    full = TOKENIZERS[name]
    counts = vocabulary.count_tokens(full, SENTENCES)
    parts = 0
    for max_size in range(len(full) - 90, len(full) - 10, 8):
        kept = vocabulary.select_tokens(full, counts, max_size=max_size)
        small = vocabulary.trim_tokenizer(full, kept)
        assert len(kept) <= max_size
        old, new = vocabulary._description(full)["model"], vocabulary._description(small)["model"]
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


@each_kind
def test_a_larger_max_size_keeps_more_of_the_frequent_tokens(full):
    counts = vocabulary.count_tokens(full, SENTENCES)
    least = len(vocabulary.select_tokens(full, counts, min_count=1000))
    before: set[int] = set()
    for max_size in (least, least + 10, least + 30):
        kept = set(vocabulary.select_tokens(full, counts, max_size=max_size).tolist())
        assert before <= kept and least <= len(kept) <= max_size
        before = kept
    with pytest.raises(UserError, match=f"max_size: {least - 1} is less than the {least} special"):
        vocabulary.select_tokens(full, counts, max_size=least - 1)


def test_a_wordpiece_tokenizer_cannot_be_trimmed(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nдень\n##ги\n")
    with pytest.raises(UserError, match="WordPiece tokenizer with prefixes cannot be trimmed"):
        vocabulary.count_tokens(BertTokenizer(str(tmp_path / "vocab.txt")), ["день"])


@pytest.mark.parametrize("name", ["BPE", "BPE with byte fallback"])
def test_a_trimmed_modernbert_gives_the_same_vectors(name, tmp_path):
    full = TOKENIZERS[name]
    settings = {
        "vocab_size": len(full) + 3,  # tables are often padded
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "pad_token_id": full.pad_token_id,
        "bos_token_id": full.bos_token_id,
        "cls_token_id": full.cls_token_id,
    }
    torch.manual_seed(0)
    model = ModernBertModel(ModernBertConfig(**settings)).eval()
    inputs = full(CORPUS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        kept, small = trimmed(full)
        vocabulary.trim_model(model, kept)
        model.save_pretrained(tmp_path)
        small.save_pretrained(tmp_path)
        loaded = AutoModel.from_pretrained(tmp_path).eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        found = loaded(**tokenizer(CORPUS, padding=True, return_tensors="pt")).last_hidden_state
    mask = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=0)
    assert loaded.config.vocab_size == loaded.get_input_embeddings().num_embeddings == len(kept)
    for token in ("pad", "bos", "cls"):
        assert getattr(loaded.config, f"{token}_token_id") == getattr(small, f"{token}_token_id")
    assert loaded.config.to_dict()["eos_token_id"] is None  # the default names a dropped token


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
