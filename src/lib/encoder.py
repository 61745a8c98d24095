"""Load and save: from the name of a base model to a classifier with its tokenizer, and back."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from lib import LABELS, embedded
from lib.errors import UserError
from lib.model import PooledClassifier, PooledClassifierConfig
from lib.schema import ModelStepParams

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


@dataclass
class Encoder:
    """A classifier, its tokenizer, and how texts enter it."""

    model: PooledClassifier
    tokenizer: transformers.PreTrainedTokenizerBase
    max_tokens: int

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return self.tokenizer.pad_token_id or 0

    def tokenize(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of each text, int32, special tokens included, cut at `max_tokens`."""
        if not texts:
            return []
        ids = self.tokenizer(
            texts, truncation=True, max_length=self.max_tokens, return_attention_mask=False
        )["input_ids"]
        return [np.asarray(row, dtype=np.int32) for row in ids]


def new_classifier(
    base_model: str,
    *,
    pooling: str,
    max_tokens: int,
    seed: int,
    dropout: float = 0.1,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> Encoder:
    """A pretrained encoder with a fresh classification layer.

    Args:
        base_model: hub id, local directory, or `embedded:e5-small`.
        pooling: `cls` or `mean`.
        seed: of the new layer's weights.
    Raises:
        UserError: the model cannot be loaded; the message says what to do.
    """
    path = resolve(base_model, cache_dir)
    with _explained(base_model):
        encoder = AutoModel.from_pretrained(path, revision=revision, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    torch.manual_seed(seed)
    config = PooledClassifierConfig(
        encoder=encoder.config.to_dict(),
        pooling=pooling,
        head_dropout=dropout,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    model = PooledClassifier(config, encoder)
    torch.nn.init.normal_(model.classifier.weight, std=0.02)
    torch.nn.init.zeros_(model.classifier.bias)
    return Encoder(model, tokenizer, _allowed_tokens(encoder.config, max_tokens))


def load_classifier(path: Path | str, max_tokens: int) -> Encoder:
    """A classifier saved by `save_classifier`.

    Raises:
        UserError: the folder is missing or not readable.
    """
    path = str(path)
    with _explained(path):
        model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path)
    return Encoder(model.eval(), tokenizer, _allowed_tokens(model.encoder.config, max_tokens))


def save_classifier(encoder: Encoder, path: Path) -> None:
    """Save model and tokenizer in Hugging Face format; the folder appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".saving-", dir=path.parent))
    try:
        encoder.model.save_pretrained(building)
        encoder.tokenizer.save_pretrained(building)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def resolve(base_model: str, cache_dir: str | None = None) -> str:
    """What `from_pretrained` gets for a base model's name: a directory or a hub id."""
    if base_model.startswith("embedded:"):
        _check_embedded(base_model)
        return str(embedded.checkpoint(Path(cache_dir).expanduser() if cache_dir else None))
    local = Path(base_model).expanduser()
    return str(local) if local.is_dir() else base_model


def fingerprint(base_model: str, revision: str | None) -> str:
    """What identifies a base model's weights, without loading them."""
    if base_model.startswith("embedded:"):
        _check_embedded(base_model)
        return f"{embedded.package_file().stat().st_size} bytes, format {embedded.FORMAT}"
    local = Path(base_model).expanduser()
    if local.is_dir():
        from lib.artifacts import digest, file_digest

        files = sorted(p for p in local.iterdir() if p.is_file())
        return digest({p.name: file_digest(p) for p in files})
    return revision or "newest"


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products for a `precision` parameter.

    `auto` takes bfloat16 where the hardware multiplies it natively: there it is 1.5x or more as
    fast as float32, elsewhere it is emulated and slower.
    """
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    processor = torch.cpu.get_capabilities()
    native = processor.get("avx512_bf16") or processor.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


def hardware(params: ModelStepParams) -> dict[str, torch.dtype | torch.device]:
    """`dtype` and `device` for a step's `precision` and `device` parameters."""
    device = choose_device(params.device)
    return {"dtype": compute_dtype(params.precision, device), "device": device}


def choose_device(device: str) -> torch.device:
    """The torch device for a `device` parameter.

    Raises:
        UserError: cuda was asked for and is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU; use auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _check_embedded(base_model: str) -> None:
    if base_model != embedded.EMBEDDED_NAME:
        raise UserError(
            f"base_model: no embedded model {base_model!r}; there is {embedded.EMBEDDED_NAME!r}"
        )


def _allowed_tokens(config: transformers.PretrainedConfig, max_tokens: int) -> int:
    positions = getattr(config, "max_position_embeddings", max_tokens)
    if config.model_type in ("xlm-roberta", "roberta"):
        positions -= 2  # their positions start behind the padding index
    if max_tokens > positions:
        raise UserError(
            f"max_tokens: {max_tokens} is more than this model's {positions} positions; lower it"
        )
    return max_tokens


@contextlib.contextmanager
def _explained(name: str):
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"base_model: cannot load {name!r} ({type(error).__name__}: {reason[:200]}). "
            "If it is a hub id, check its spelling and the network (HF_HUB_OFFLINE must not be "
            "set), or download it elsewhere and give the local directory as base_model. "
            f"Without a hub, base_model: {embedded.EMBEDDED_NAME} works."
        ) from error
