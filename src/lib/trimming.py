"""The command `python -m lib trim`: a base model with the vocabulary of a corpus.

The result is a normal Hugging Face checkpoint, so its directory can be any run's `base_model`. The
method is in `lib.vocabulary`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm
from transformers import (
    AutoModel,
    AutoTokenizer,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lib import cleaning, encoder, readers, vocabulary
from lib.errors import UserError

MMBERT_BASE = {
    "vocab_size": 256_000,
    "hidden_size": 768,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "intermediate_size": 1152,
    "pad_token_id": 0,
}
"""Shape of jhu-clsp/mmBERT-base (Marone et al. 2025, arXiv:2509.06888)."""


@dataclass(frozen=True)
class Size:
    """Size of a model: tokens of its vocabulary, all parameters, bytes of its weights."""

    tokens: int
    parameters: int
    weight_bytes: int


@dataclass(frozen=True)
class Trimmed:
    """What a trimming did; `coverage` is the share of the corpus's tokens that are still there."""

    before: Size
    after: Size
    coverage: float


def trim(
    base_model: str,
    files: list[Path],
    out: Path,
    *,
    min_count: int = 1,
    max_size: int | None = None,
    cache_dir: str | None = None,
) -> Trimmed:
    """Write a copy of a base model that has only the tokens which the texts of `files` use.

    Args:
        base_model: local directory, hub id, or `embedded:e5-small`; of a model with a head only
            the encoder is written.
        files: corpus files with a column `text` (see `lib.readers.FORMATS`).
        out: new directory; it appears whole or not at all.
        min_count, max_size: see `lib.vocabulary.select_tokens`.
    Raises:
        UserError: a file or the model is not readable, `out` is there already, or the tokenizer
            cannot be trimmed.
    """
    if out.exists():
        raise UserError(f"--out: {out} is there already; remove it or name another directory")
    for path in files:
        if not path.is_file() or not readers.is_readable(path.name):
            raise UserError(
                f"--corpus: {path} is not a {', '.join(readers.FORMATS)} file; name files with a "
                "column `text`, such as outputs/RUN/01_gold_data/corpus/*.parquet"
            )
    model, tokenizer = _load(base_model, cache_dir)
    before = Size(*_vocabulary_and_parameters(model), _weight_bytes(model))
    counts = vocabulary.count_tokens(tokenizer, _texts(files))
    kept = vocabulary.select_tokens(tokenizer, counts, min_count=min_count, max_size=max_size)
    vocabulary.trim_model(model, kept)
    _save(model, vocabulary.trim_tokenizer(tokenizer, kept), out)
    after = Size(*_vocabulary_and_parameters(model), _weight_bytes(model))
    return Trimmed(before, after, float(counts[kept].sum() / max(1, counts.sum())))


def shape_size(settings: dict[str, int], tokens: int) -> Size:
    """Size in float32 of a ModernBERT encoder of this shape with `tokens` tokens, without making
    its weights."""
    with torch.device("meta"):
        model = ModernBertModel(ModernBertConfig(**(settings | {"vocab_size": tokens})))
    return Size(*_vocabulary_and_parameters(model), _weight_bytes(model))


def table(sizes: dict[str, tuple[Size, Size]]) -> str:
    """Sizes before and after as text, one line per model."""
    lines = [f"{'':24}{'tokens':>20}{'million parameters':>22}{'weights, MB':>20}"]
    for name, (before, after) in sizes.items():
        tokens = f"{before.tokens:,} → {after.tokens:,}"
        parameters = f"{before.parameters / 1e6:.1f} → {after.parameters / 1e6:.1f}"
        megabytes = f"{before.weight_bytes / 1e6:.0f} → {after.weight_bytes / 1e6:.0f}"
        lines.append(f"{name:24}{tokens:>20}{parameters:>22}{megabytes:>20}")
    return "\n".join(lines)


def _load(
    base_model: str, cache_dir: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    path = encoder.resolve(base_model, cache_dir)
    try:
        model, info = AutoModel.from_pretrained(path, output_loading_info=True, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"cannot load the base model {base_model!r} ({reason[:200]}); give the directory of "
            "a Hugging Face encoder with its tokenizer.json, or embedded:e5-small"
        ) from error
    if any(name.startswith("pooler.") for name in info["missing_keys"]):
        model.pooler = None  # not in the checkpoint: its weights would be random
    return model, tokenizer


def _texts(files: list[Path]) -> Iterator[str]:
    """All texts, as step 01 cleans them."""
    with tqdm(desc="counting tokens", unit="text", disable=None) as bar:
        for path in files:
            if _is_empty_part(path):
                continue
            for place, row in readers.read(path, ["text"]):
                if not isinstance(row["text"], str):
                    raise UserError(f"{place}, column text: expected a text, got {row['text']!r}")
                yield cleaning.clean(row["text"])
                bar.update()


def _is_empty_part(path: Path) -> bool:
    """Whether this is a Parquet file without rows, as a part of a corpus may be."""
    try:
        return path.suffix == ".parquet" and pq.read_metadata(path).num_rows == 0
    except pa.ArrowInvalid:
        return False  # the reader says what is wrong with it


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".trimming-", dir=out.parent))
    try:
        model.save_pretrained(building)
        tokenizer.save_pretrained(building)
        building.chmod(0o755)
        os.replace(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _vocabulary_and_parameters(model: PreTrainedModel) -> tuple[int, int]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model.get_input_embeddings().num_embeddings, parameters


def _weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights as they are written (a file's header of some kB comes on top)."""
    return int(sum(np.prod(p.shape) * p.element_size() for p in model.parameters()))
