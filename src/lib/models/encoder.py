"""Load and save: from the name of a base model to a classifier with its tokenizer, and back.

A saved folder is a stock checkpoint: `AutoModelForSequenceClassification`, `AutoModel` and
`pipeline` open it, and what sentence-transformers reads lies beside the weights.

transformers takes three seconds to import, so only the functions that load a model import it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from lib import LABELS
from lib.errors import UserError
from lib.files import digest, folder_digests, make_readable, read_json, write_json, write_text
from lib.models import embedded
from lib.models.batching import Tokens, batched
from lib.models.classifier import last_layer, start_as_identity

if TYPE_CHECKING:
    from accelerate import PartialState
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

REMEDY = (
    "if it is a hub id, check its spelling, base_revision and the network (HF_HUB_OFFLINE must not "
    "be set), or download it elsewhere and give the local directory; without a hub, base_model: "
    f"{embedded.EMBEDDED_NAME} works"
)
POOLING, LENGTH = Path("1_Pooling/config.json"), Path("sentence_bert_config.json")
PROBE = "probe.safetensors"
AT_ONCE = 500  # texts; while a tokenizer works it holds some 160 bytes for each token
PATIENCE = timedelta(days=2)  # of a process that waits while the main one works alone
PLACES = ("_name_or_path", "name_or_path", "tokenizer_file")  # of the machine that trained it


@dataclass
class Encoder:
    """A classifier, its tokenizer, how texts enter it and which vector of them it gives.

    model: a stock `...ForSequenceClassification` of transformers.
    pooling: of the pooled vector, `cls` or `mean`.
    probe: reads the pooled vector instead of the model's own head (`lib.embeddings.probe`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    pooling: str
    probe: torch.nn.Linear | None = None

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return self.tokenizer.pad_token_id or 0

    @property
    def hidden_size(self) -> int:
        """Dimensions of the pooled vector."""
        return self.model.config.hidden_size

    @property
    def last_layer(self) -> torch.nn.Linear:
        """The layer that gives the logits."""
        return self.probe or last_layer(self.model)

    def tokenize(self, texts: Iterable[str]) -> Tokens:
        """Token ids of each text, special tokens included, cut at `max_tokens`."""
        cut = {"truncation": True, "max_length": self.max_tokens, "return_attention_mask": False}
        pieces = (self.tokenizer(each, **cut)["input_ids"] for each in batched(texts, AT_ONCE))
        return Tokens.join(chain.from_iterable(pieces))


def new_classifier(
    base_model: str | Path,
    *,
    pooling: str,
    max_tokens: int,
    seed: int,
    revision: str | None = None,
) -> Encoder:
    """A pretrained encoder with a fresh classification layer.

    Args:
        base_model: hub id, local directory, or `embedded:e5-small`.
        pooling: `cls` or `mean`; ModernBERT classifies from this vector, too.
        seed: of the new layer's weights.
    Raises:
        UserError: the model cannot be loaded; the message says what to do.
    """
    model, tokenizer = load_pretrained(base_model, revision, dtype=torch.float32)
    if hasattr(model.config, "classifier_pooling"):
        model.config.classifier_pooling = pooling
    encoder = Encoder(model, tokenizer, _allowed_tokens(model.config, max_tokens), pooling)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(encoder.last_layer.weight, std=0.02, generator=generator)
    torch.nn.init.zeros_(encoder.last_layer.bias)
    return encoder


def load_pretrained(
    base_model: str | Path, revision: str | None = None, *, dtype: torch.dtype | str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pretrained encoder below a classification head, and its tokenizer.

    What a checkpoint has of the head is taken (ModernBERT's dense layer, BERT's pooler); a layer
    from d to d that it lacks becomes the identity.

    Raises:
        UserError: see `new_classifier`.
    """
    with _explained(f"base_model: cannot load {str(base_model)!r}", REMEDY):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        path = resolve(base_model)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            path,
            revision=revision,
            dtype=dtype,
            id2label=dict(enumerate(LABELS)),
            label2id={name: i for i, name in enumerate(LABELS)},
            ignore_mismatched_sizes=True,  # a classifier with other classes is an encoder, too
            output_loading_info=True,
        )
        start_as_identity(model, found["missing_keys"])
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    return model, tokenizer


def load_classifier(path: Path | str, max_tokens: int | None = None) -> Encoder:
    """A classifier saved by `save_classifier`.

    Args:
        max_tokens: None: as it was trained.
    Raises:
        UserError: the folder is missing or not readable.
    """
    folder = Path(path)
    saved = "name the folder of a trained model, such as outputs/RUN/05_metric_learning/model"
    with _explained(f"cannot load a classifier from {path}", saved):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        model = AutoModelForSequenceClassification.from_pretrained(str(path), dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(path))
        pooling = read_json(folder / POOLING)
        tokens = read_json(folder / LENGTH)["max_seq_length"] if max_tokens is None else max_tokens
        encoder = Encoder(
            model.eval(),
            tokenizer,
            _allowed_tokens(model.config, tokens),
            "cls" if pooling["pooling_mode_cls_token"] else "mean",
        )
        if (folder / PROBE).exists():
            encoder.probe = torch.nn.Linear(encoder.hidden_size, len(LABELS))
            encoder.probe.load_state_dict(load_file(folder / PROBE))
    return encoder


def save_classifier(encoder: Encoder, folder: Path) -> None:
    """Write a classifier into a folder that transformers and sentence-transformers open.

    `SentenceTransformer(folder).encode` gives the vectors of the embedding store.
    """
    encoder.tokenizer.model_max_length = encoder.max_tokens
    save_pretrained(encoder.model, encoder.tokenizer, folder)
    modules = {"": "Transformer", POOLING.parent.name: "Pooling"}
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules.items())
        ],
    )
    write_json(folder / LENGTH, {"max_seq_length": encoder.max_tokens, "do_lower_case": False})
    write_json(
        folder / POOLING,
        {
            "word_embedding_dimension": encoder.hidden_size,
            "pooling_mode_cls_token": encoder.pooling == "cls",
            "pooling_mode_mean_tokens": encoder.pooling == "mean",
        },
    )
    if encoder.probe is not None:
        save_file(encoder.probe.state_dict(), folder / PROBE)
    make_readable(folder)


def save_pretrained(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write model and tokenizer: others on the machine can read them, and no file names a place
    on it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.glob("*config.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        for name in PLACES:
            content.pop(name, None)
        write_text(file, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
    make_readable(folder)


def resolve(base_model: str | Path) -> str:
    """What `from_pretrained` gets for a base model's name: a directory or a hub id."""
    if _is_embedded(base_model):
        return str(embedded.checkpoint())
    local = Path(base_model).expanduser()
    return str(local) if local.is_dir() else str(base_model)


def resolve_revision(base_model: str, revision: str | None) -> str | None:
    """The commit that the hub has for a model now; None for a model that is not of a hub.

    Raises:
        UserError: the hub cannot be asked, or does not know the model.
    """
    if _is_embedded(base_model) or Path(base_model).expanduser().is_dir():
        return None
    from huggingface_hub import HfApi

    with _explained(f"base_model: cannot ask for {base_model!r}", REMEDY):
        return HfApi().model_info(base_model, revision=revision, timeout=30).sha


def fingerprint(base_model: str | Path, revision: str | None) -> str:
    """What identifies a model's weights, without loading them.

    Raises:
        UserError: a name that is no embedded model, or a directory that is not there.
    """
    if _is_embedded(base_model):
        return f"{embedded.package_file().stat().st_size} bytes, format {embedded.FORMAT}"
    local = Path(base_model).expanduser()
    if local.is_dir():
        return digest(folder_digests(local))
    if isinstance(base_model, Path) or local.is_absolute() or base_model.startswith("."):
        raise UserError(f"{base_model}: no such directory; name the folder of a saved model")
    return revision or "newest"


def hardware(precision: str, device: str) -> dict[str, Any]:
    """`dtype` and `device` for a step's `precision` and `device` parameters."""
    chosen = choose_device(device)
    return {"dtype": compute_dtype(precision, chosen), "device": chosen}


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


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products for a `precision` parameter.

    `auto` takes bfloat16 where the hardware multiplies it natively: there it is 1.5x or more as
    fast as float32, elsewhere it is emulated and slower. A GPU without it takes float16.

    Raises:
        UserError: bfloat16 was asked for on a GPU that would emulate it.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bfloat16" and not native:
            raise UserError("precision: this GPU has no bfloat16; take auto (float16) or float32")
        half = torch.bfloat16 if native else torch.float16
    else:
        processor = torch.cpu.get_capabilities()
        native = processor.get("avx512_bf16") or processor.get("amx_bf16")
        half = torch.bfloat16 if native else torch.float32
    return half if precision == "auto" else getattr(torch, precision)


def processes() -> PartialState:
    """The processes that torchrun or accelerate launch started together with this one."""
    from accelerate import PartialState

    # without `cpu`, those on a machine without GPUs do not know of each other
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _is_embedded(base_model: str | Path) -> bool:
    name = str(base_model)
    if name.startswith("embedded:") and name != embedded.EMBEDDED_NAME:
        known = embedded.EMBEDDED_NAME
        raise UserError(f"base_model: no embedded model {name!r}; there is {known!r}")
    return name == embedded.EMBEDDED_NAME


def _allowed_tokens(config: PretrainedConfig, max_tokens: int) -> int:
    positions = getattr(config, "max_position_embeddings", max_tokens)
    if config.model_type in ("xlm-roberta", "roberta"):
        positions -= 2  # their positions start behind the padding index
    if max_tokens > positions:
        raise UserError(
            f"max_tokens: {max_tokens} is more than this model's {positions} positions; lower it"
        )
    return max_tokens


@contextlib.contextmanager
def _explained(problem: str, remedy: str) -> Iterator[None]:
    """Quietly, and any error of the libraries as one line that says what to do."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the libraries below raise dozens of kinds
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        message = f"{problem} ({type(error).__name__}: {reason[:200]}); {remedy}"
        raise UserError(message) from error
