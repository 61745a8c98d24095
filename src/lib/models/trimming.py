"""The command `python -m lib trim`: a base model with the vocabulary of a corpus.

The result is a normal Hugging Face checkpoint, so its directory can be any run's `base_model`. The
method is in `lib.models.vocabulary`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lib.data import cleaning, readers
from lib.errors import UserError
from lib.files import atomic_folder
from lib.models import encoder, vocabulary


def trim(
    base_model: str,
    files: list[Path],
    out: Path,
    *,
    min_count: int = 1,
    max_size: int | None = None,
) -> str:
    """Write a copy of a base model that has only the tokens which the texts of `files` use.

    Args:
        base_model: local directory, hub id, or `embedded:e5-small`; of a model with a head only
            the encoder is written.
        files: corpus files with a column `text` (see `lib.data.readers.FORMATS`).
        out: new directory; it appears whole or not at all.
        min_count, max_size: see `lib.models.vocabulary.select_tokens`.
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
                f"--corpus: {path} is not a {', '.join(readers.FORMATS)} file; name files with a "
                "column `text`, such as outputs/RUN/01_gold_data/tables/corpus/*.parquet"
            )
    model, tokenizer = _load(base_model)
    before = _size(model)
    counts = vocabulary.count_tokens(tokenizer, _texts(files))
    kept = vocabulary.select_tokens(tokenizer, counts, min_count=min_count, max_size=max_size)
    vocabulary.trim_model(model, kept)
    with atomic_folder(out) as building:
        model.save_pretrained(building)
        vocabulary.trim_tokenizer(tokenizer, kept).save_pretrained(building)
        encoder.remove_places(building)
    coverage = counts[kept].sum() / max(1, counts.sum())
    return (
        f"before: {before}\nafter:  {_size(model)}\n"
        f"{coverage:.2%} of the corpus's tokens are kept as they are"
    )


def _load(base_model: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    path = encoder.resolve(base_model)
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


def _size(model: PreTrainedModel) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tokens = model.get_input_embeddings().num_embeddings
    megabytes = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
    return f"{tokens:,} tokens, {parameters / 1e6:.1f} million parameters, {megabytes:.0f} MB"
