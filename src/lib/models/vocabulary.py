"""Vocabulary trimming: keep the tokens that a corpus uses, with their rows of the embedding table.

A multilingual vocabulary covers a hundred languages, and its embedding table is most of a small
model: 82% of e5-small, 64% of mmBERT-base. On a text whose tokens are all kept, the trimmed model
does what the full one does: same tokens, same vectors. Other texts are cut into smaller tokens.

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
from collections.abc import Iterable
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, pre_tokenizers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lib.errors import UserError

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
BATCH = 1000  # texts that are tokenised at once


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> np.ndarray:
    """How often each token occurs in texts, special tokens apart: int64 [tokens of the tokenizer].

    Texts are taken as they are and in full length.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    counts = np.zeros(len(_pieces(_description(tokenizer))), dtype=np.int64)
    waiting = iter(texts)
    while batch := list(islice(waiting, BATCH)):
        encoded = backend.encode_batch_fast(batch, add_special_tokens=False)
        ids = np.concatenate([np.asarray(one.ids, dtype=np.int64) for one in encoded])
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def select_tokens(
    tokenizer: PreTrainedTokenizerBase,
    counts: np.ndarray,
    *,
    min_count: int = 1,
    max_size: int | None = None,
) -> np.ndarray:
    """The tokens to keep.

    Always kept are special tokens, byte tokens, the characters that the counted texts
    have, and of all other characters those that are no letters (emoji, digits, punctuation) or
    are Cyrillic or Latin. Then tokens follow by count, with what they are merged from.

    Args:
        counts: as `count_tokens` gives them.
        min_count: tokens with fewer occurrences are dropped, if no kept token is merged from them.
        max_size: stop before the vocabulary has more tokens than this; None: no limit.
    Returns:
        Old ids int64 [kept], ascending: a token's new id is its place in it.
    Raises:
        UserError: a kind of tokenizer that cannot be trimmed, or `max_size` is too small.
    """
    description = _description(tokenizer)
    ids = {piece: number for number, piece in _pieces(description).items()}
    ranks = _ranks(description["model"])
    kept: set[int] = set()
    for piece in _always_kept(description, counts):
        kept |= _with_parts(piece, ranks, ids)
    if max_size is not None and len(kept) > max_size:
        raise UserError(
            f"max_size: {max_size:,} is less than the {len(kept):,} special tokens and characters "
            "that are always kept; raise it"
        )
    pieces = {number: piece for piece, number in ids.items()}
    for token in np.argsort(-counts, kind="stable"):
        if counts[token] < max(1, min_count):
            break
        new = _with_parts(pieces[int(token)], ranks, ids) - kept
        if max_size is not None and len(kept) + len(new) > max_size:
            break
        kept |= new
    return np.array(sorted(kept), dtype=np.int64)


def trim_tokenizer(tokenizer: PreTrainedTokenizerBase, kept: np.ndarray) -> PreTrainedTokenizerFast:
    """A tokenizer with the kept tokens only, renumbered by their place in `kept`."""
    description = _description(tokenizer)
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
    _renumber(description["post_processor"], new_id)
    description |= {"padding": None, "truncation": None}
    names = {
        name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **names,
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


def _with_parts(
    piece: str, ranks: dict[tuple[str, str], int] | None, ids: dict[str, int]
) -> set[int]:
    """Ids of a piece and of all that it is merged from."""
    return {ids[part] for part in ([piece] if ranks is None else merge_parts(piece, ranks))}


def _description(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The content of tokenizer.json.

    Raises:
        UserError: a kind of tokenizer that cannot be trimmed.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError("this model has no fast tokenizer (tokenizer.json) that could be trimmed")
    description = json.loads(backend.to_str())
    model = description["model"]
    affixes = [model.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix")]
    if model["type"] not in ("Unigram", "BPE") or any(affixes):
        raise UserError(
            f"a {model['type']} tokenizer{' with prefixes' if any(affixes) else ''} cannot be "
            "trimmed; only Unigram and BPE tokenizers without prefixes and suffixes can"
        )
    return description


def _pieces(description: dict[str, Any]) -> dict[int, str]:
    """Id -> text of every token, added tokens included.

    Raises:
        UserError: the ids have gaps.
    """
    vocabulary = description["model"]["vocab"]
    if description["model"]["type"] == "Unigram":
        pieces = {number: piece for number, (piece, _) in enumerate(vocabulary)}
    else:
        pieces = {number: piece for piece, number in vocabulary.items()}
    pieces |= {token["id"]: token["content"] for token in description["added_tokens"]}
    if max(pieces) + 1 != len(pieces):
        raise UserError(f"the tokenizer has {len(pieces):,} tokens, but ids up to {max(pieces):,}")
    return pieces


def _ranks(model: dict[str, Any]) -> dict[tuple[str, str], int] | None:
    """Rank of each merge; None for a model without merges."""
    if model["type"] == "Unigram":
        return None
    return {tuple(pair): rank for rank, pair in enumerate(model["merges"])}


def _always_kept(description: dict[str, Any], counts: np.ndarray) -> set[str]:
    """See `select_tokens`; only the lowest-scored piece of a Unigram model is not said there."""
    model, pieces = description["model"], _pieces(description)
    always = {token["content"] for token in description["added_tokens"] if token["special"]}
    if model["type"] == "Unigram":
        always.add(min(model["vocab"], key=lambda entry: entry[1])[0])
        if model["unk_id"] is not None:
            always.add(pieces[model["unk_id"]])
    elif model["unk_token"] is not None:
        always.add(model["unk_token"])
    if model["byte_fallback"]:
        always |= {piece for piece in pieces.values() if _BYTE.fullmatch(piece)}
    characters = {character for i in np.flatnonzero(counts) for character in pieces[int(i)]}
    if "ByteLevel" in json.dumps([description["pre_tokenizer"], description["normalizer"]]):
        characters |= set(pre_tokenizers.ByteLevel.alphabet())
    return always | {
        piece
        for piece in pieces.values()
        if len(piece) == 1 and (piece in characters or _is_common(piece))
    }


def _is_common(character: str) -> bool:
    """A Cyrillic or Latin letter, or no letter at all."""
    if unicodedata.category(character)[0] in "NPSZ":
        return True
    return unicodedata.name(character, "").startswith(("CYRILLIC", "LATIN"))


def _renumber(processor: dict[str, Any] | None, new_id: dict[int, int]) -> None:
    """Write new ids into the description of a post-processor."""
    if processor is None:
        return
    for inner in processor.get("processors", []):
        _renumber(inner, new_id)
    for name in ("sep", "cls"):
        if name in processor:
            text, old = processor[name]
            processor[name] = [text, new_id[old]]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new_id[old] for old in token["ids"]]
