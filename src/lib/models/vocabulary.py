"""Vocabulary trimming, `python -m lib trim`: keep the tokens that a corpus uses, and their vectors.

A multilingual vocabulary covers a hundred languages, and its embedding table is most of a small
model: 82% of e5-small, 64% of mmBERT-base. On a text whose tokens are all kept, the trimmed model
does what the full one does: same tokens, same vectors. Other texts are cut into smaller tokens.
The result is a normal Hugging Face checkpoint, so its directory can be any run's `base_model`.

- Unigram (XLM-R, e5): the best path through a text stays the best while its tokens are there. The
  piece with the lowest score stays, too, because the price of an unknown character hangs on it.
- BPE (mmBERT's Gemma 2, ModernBERT): merges are applied by rank, so a token is made of its
  characters in one way only, whatever its neighbours. Everything on that way is kept, and so is
  every merge whose parts and result are kept, in the old order.

Reference: Abdaoui, Pradel and Sigel 2020, "Load What You Need: Smaller Versions of Multilingual
BERT", arXiv:2010.05609 (trimming); Sennrich, Haddow and Birch 2016, arXiv:1508.07909 (BPE).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, pre_tokenizers
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lib.data import cleaning, readers
from lib.errors import UserError
from lib.files import atomic_folder
from lib.models.batching import batched
from lib.models.encoder import load_pretrained, save_pretrained

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
BATCH = 1000  # texts that are tokenised at once


def trim(
    base_model: str,
    files: list[Path],
    out: Path,
    *,
    min_count: int = 1,
) -> str:
    """Write a copy of a base model that has only the tokens which the texts of `files` use.

    Args:
        base_model: local directory, hub id, or `embedded:e5-small`; only the encoder is written,
            without a head or a pooler.
        files: corpus files with a column `text` (see `lib.data.readers.FORMATS`).
        out: new directory; it appears whole or not at all.
        min_count: see `select_tokens`.
    Returns:
        Sizes before and after, and the share of the corpus's tokens that is kept, as text.
    Raises:
        UserError: a file or the model is not readable, `out` is there already, or the tokenizer
            cannot be trimmed.
    """
    if out.exists():
        raise UserError(f"--out: {out} is there already; remove it or name another directory")
    for path in files:
        if not path.is_file() or not readers.is_readable(path.name):
            raise UserError(
                f"--corpus: {path} is not a {', '.join(readers.FORMATS)} file; name files such as "
                "outputs/RUN/01_gold_data/tables/corpus/*.parquet"
            )
    model, tokenizer = load_pretrained(base_model, dtype="auto")
    trimmed, summary = cut(model, tokenizer, _texts(files), min_count=min_count)
    with atomic_folder(out) as building:
        save_pretrained(model, trimmed, building)
    return summary


def cut(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    *,
    min_count: int = 1,
    letters: str = "",
) -> tuple[PreTrainedTokenizerFast, str]:
    """Cut a model in place to the tokens that texts use; the new tokenizer, and what `trim` says.

    Args:
        min_count, letters: see `select_tokens`.
    """
    before = _size(model)
    counts = count_tokens(tokenizer, tqdm(texts, desc="counting tokens", unit="text", disable=None))
    kept = select_tokens(tokenizer, counts, min_count=min_count, letters=letters)
    trim_model(model, kept)
    coverage = counts[kept].sum() / max(1, counts.sum())
    return trim_tokenizer(tokenizer, kept), (
        f"before: {before}\nafter:  {_size(model)}\n"
        f"{coverage:.2%} of the corpus's tokens are kept as they are"
    )


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> np.ndarray:
    """How often each token occurs in texts of any length, special tokens apart: int64 [highest id
    of the tokenizer + 1]."""
    counts = np.zeros(max(_read(tokenizer)[1].values()) + 1, dtype=np.int64)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for batch in batched(texts, BATCH):
        for encoded in backend.encode_batch_fast(batch, add_special_tokens=False):
            np.add.at(counts, encoded.ids, 1)
    return counts


def select_tokens(
    tokenizer: PreTrainedTokenizerBase,
    counts: np.ndarray,
    *,
    min_count: int = 1,
    letters: str = "",
) -> np.ndarray:
    """The tokens to keep.

    Always kept are special tokens, byte tokens, the characters that the counted texts
    have, and of all other characters those that are no letters (emoji, digits, punctuation) or
    are Cyrillic or Latin. Other tokens are kept by their count, with what they are merged from.

    Args:
        counts: as `count_tokens` gives them.
        min_count: tokens with fewer occurrences are dropped, if no kept token is merged from them.
        letters: an alphabet, of which every token is kept, whatever its count: a small corpus lacks
            most words of its language.
    Returns:
        Old ids int64 [kept], ascending: a token's new id is its place in it.
    Raises:
        UserError: a kind of tokenizer that cannot be trimmed.
    """
    description, ids = _read(tokenizer)
    pieces = {number: piece for piece, number in ids.items()}
    seen = {character for token in np.flatnonzero(counts) for character in pieces[int(token)]}
    ranks = {tuple(pair): rank for rank, pair in enumerate(description["model"].get("merges", []))}

    always = _always_kept(description, ids, seen)
    kept = {ids[part] for piece in always for part in merge_parts(piece, ranks)}
    for token in {*np.flatnonzero(counts >= max(1, min_count)), *_of_letters(tokenizer, letters)}:
        kept |= {ids[part] for part in merge_parts(pieces[int(token)], ranks)}
    return np.array(sorted(kept), dtype=np.int64)


def trim_tokenizer(tokenizer: PreTrainedTokenizerBase, kept: np.ndarray) -> PreTrainedTokenizerFast:
    """A tokenizer with the kept tokens only, renumbered by their place in `kept`."""
    description, _ = _read(tokenizer)
    new_id = {int(old): new for new, old in enumerate(kept)}
    model = description["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in new_id]
        if model["unk_id"] is not None:
            model["unk_id"] = new_id[model["unk_id"]]
    else:
        vocabulary = {piece: new_id[old] for piece, old in model["vocab"].items() if old in new_id}
        model["vocab"] = vocabulary
        model["merges"] = [
            pair
            for pair in model["merges"]
            if all(piece in vocabulary for piece in (*pair, "".join(pair)))
        ]
    added = [token for token in description["added_tokens"] if token["id"] in new_id]
    description["added_tokens"] = [token | {"id": new_id[token["id"]]} for token in added]
    _renumber(description["post_processor"] or {}, new_id)
    description |= {"padding": None, "truncation": None}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )


def trim_model(model: PreTrainedModel, kept: np.ndarray) -> None:
    """Cut the embedding table of an encoder to the rows `kept`, in place, and renumber its
    configuration's special tokens."""
    new_id = {int(old): new for new, old in enumerate(kept)}
    for name, value in vars(model.config).items():
        if name.endswith("_token_id") and isinstance(value, int):
            setattr(model.config, name, new_id.get(value))
    table: Any = model.get_input_embeddings()
    rows = table.weight.detach()[torch.from_numpy(kept)].clone()
    padding = None if table.padding_idx is None else new_id.get(table.padding_idx)
    model.set_input_embeddings(nn.Embedding.from_pretrained(rows, False, padding_idx=padding))
    model.config.vocab_size = len(kept)


def merge_parts(piece: str, ranks: dict[tuple[str, str], int]) -> set[str]:
    """Every piece that BPE makes on its way from the characters of `piece` to `piece`, both ends
    included; just `piece` if merges do not lead there (byte and added tokens).

    Args:
        ranks: pair of pieces -> place in the list of merges.
    """
    symbols = list(piece)
    made = {piece, *symbols}
    while len(symbols) > 1:
        pairs = enumerate(pairwise(symbols))
        rank, place = min((ranks.get(pair, len(ranks)), place) for place, pair in pairs)
        if rank == len(ranks):
            return {piece}
        symbols[place : place + 2] = ["".join(symbols[place : place + 2])]
        made.add(symbols[place])
    return made


def _read(tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, Any], dict[str, int]]:
    """The content of tokenizer.json, and text -> id of every token, added tokens included.

    Raises:
        UserError: a kind of tokenizer that cannot be trimmed.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    description = json.loads(backend.to_str()) if backend else {"model": {"type": "slow"}}
    model = description["model"]
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model["type"] not in ("Unigram", "BPE") or affixes:
        raise UserError(
            f"a {model['type']} tokenizer cannot be trimmed; only fast Unigram and BPE tokenizers "
            "without prefixes and suffixes can"
        )
    return description, tokenizer.get_vocab()


def _always_kept(description: dict[str, Any], ids: dict[str, int], seen: set[str]) -> set[str]:
    """See `select_tokens`; and the lowest-scored piece of a Unigram model.

    Args:
        seen: the characters of the counted texts.
    """
    model = description["model"]
    always = {token["content"] for token in description["added_tokens"] if token["special"]}
    if model["type"] == "Unigram":
        always.add(min(model["vocab"], key=lambda entry: entry[1])[0])
        if model["unk_id"] is not None:
            always.add(model["vocab"][model["unk_id"]][0])
    elif model["unk_token"] is not None:
        always.add(model["unk_token"])
    if model["byte_fallback"]:
        always |= {piece for piece in ids if _BYTE.fullmatch(piece)}
    if "ByteLevel" in json.dumps([description["pre_tokenizer"], description["normalizer"]]):
        seen = seen | set(pre_tokenizers.ByteLevel.alphabet())
    return always | {p for p in ids if len(p) == 1 and (p in seen or _is_common(p))}


def _of_letters(tokenizer: PreTrainedTokenizerBase, letters: str) -> list[int]:
    """Tokens that are a word, or a part of one, of these letters, small or capital."""
    alphabet = {*letters.lower(), *letters.upper()}
    tokens = sorted(tokenizer.get_vocab().values()) if letters else []
    texts = tokenizer.backend_tokenizer.decode_batch([[token] for token in tokens])
    words = [text.strip().lstrip("▁") for text in texts]
    return [
        token for token, word in zip(tokens, words, strict=True) if word and {*word} <= alphabet
    ]


def _is_common(character: str) -> bool:
    """A Cyrillic or Latin letter, or no letter at all."""
    if unicodedata.category(character)[0] in "NPSZ":
        return True
    return unicodedata.name(character, "").startswith(("CYRILLIC", "LATIN"))


def _renumber(processor: dict[str, Any], new_id: dict[int, int]) -> None:
    """Write new ids into the description of a post-processor."""
    for inner in processor.get("processors", []):
        _renumber(inner, new_id)
    for name in {"sep", "cls"} & processor.keys():
        processor[name][1] = new_id[processor[name][1]]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new_id[old] for old in token["ids"]]


def _texts(files: list[Path]) -> Iterator[str]:
    """All texts, as step 01 cleans them; a part of a corpus may be empty."""
    for path in files:
        for _, row in readers.read(path, ["text"], may_be_empty=True):
            yield cleaning.clean(str(row["text"] or ""))


def _size(model: PreTrainedModel) -> str:
    table: Any = model.get_input_embeddings()
    megabytes = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
    return (
        f"{table.num_embeddings:,} tokens, {model.num_parameters() / 1e6:.1f} million parameters, "
        f"{megabytes:.0f} MB"
    )
