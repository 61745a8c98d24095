"""What is known of a run before it starts: its texts, as far as nobody has to ask a hub, and how
fast its model is on this machine."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.artefacts import Manifest, read_manifest
from lib.data import sources, tables
from lib.data.registry import NOTHING
from lib.errors import UserError
from lib.files import damage, read_record, write_json
from lib.models.batching import Tokens
from lib.models.classifier import classify
from lib.models.encoder import Encoder, hardware, new_classifier, resolve
from lib.models.inference import Predictor, attend_fast, pad
from lib.parameters import STEPS
from lib.runs import fingerprints, steps
from lib.runs.parameter_files import RunParams

DATA, BASE, EMBED = [*STEPS][:3]
CALIBRATION = "plan.json"
CHARACTERS = 3.5  # of a token, where no tokenizer is here: Russian posts, multilingual vocabularies
CALIBRATED = 20, 1024  # steps, and about so many tokens in each on a CPU; 16 times that on a GPU
PATIENCE = 60  # seconds after which no further step is begun
MANY = 100_000  # texts, where nobody knows how many there are
FEW = 200  # texts of each file that are looked at
TRAINED_WITH = ("freeze_word_embeddings", "tokens_per_batch", "gradient_checkpointing")
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
MEASURED = {"characters_per_token", "embedding", "training"}
STAND_IN = ["Хороший телефон, но батарея держит один день, жаль"]  # where no text is known


@dataclass(frozen=True)
class Texts:
    """Characters of each text, int [n], of gold and corpus; train, audited: how many are those;
    sample: some of them; unknown: sources whose texts nobody has counted, in words."""

    gold: np.ndarray
    corpus: np.ndarray
    train: float
    audited: float
    sample: list[str]
    unknown: list[str]
    complete: bool = False  # from the tables of 01

    def tokens(self, step: str, max_tokens: int, characters: float = CHARACTERS) -> np.ndarray:
        """Tokens of each text that a step reads, float [n], if one has so many characters."""
        both = {BASE: self.gold, EMBED: self.corpus}
        read = both.get(step, np.concatenate([self.gold, self.corpus]))
        return np.minimum(read / characters + 2, max_tokens)


def read_texts(params: RunParams, run_dir: Path, most: int | None = None) -> Texts:
    """From the tables of 01 if they are there and whole, else from the sources' files.

    Args:
        most: rows of each file that are read; None: all.
    """
    data: Any = params.steps[DATA]
    manifest, folder = read_manifest(run_dir, DATA), run_dir / DATA / "tables"
    if manifest and damage(run_dir / DATA, manifest.get("bytes", {})):
        manifest = None  # 01 says so and makes it again
    if manifest and _is_of(manifest, data):
        gold = pd.read_parquet(folder / "gold.parquet")
        lengths = tables.text_lengths(gold, folder / "corpus").groupby("table")["characters"]
        each = {name: rows.to_numpy() for name, rows in lengths}
        audit = [b.column(0) for b in tables.batches(folder / "corpus", ["audit_label"])]
        audited = sum(len(column) - column.null_count for column in audit)
        sample = gold["text"].sample(min(len(gold), FEW), random_state=0).tolist()
        train, none = int((gold["split"] == "train").sum()), np.empty(0, dtype=np.int64)
        return Texts(each["gold"], each.get("corpus", none), train, audited, sample, [], True)
    return _of_files(data, most)


def _is_of(manifest: Manifest, data: Any) -> bool:
    """Whether 01 was made with these parameters and of the files that are there now."""
    if manifest["parameters"] != data.model_dump(mode="json"):
        return False
    try:
        return manifest.get("external") == fingerprints.external(DATA, data)
    except UserError:
        return False


def _of_files(data: Any, most: int | None) -> Texts:
    found: dict[str, list[int]] = {"gold": [], "corpus": []}
    counts = Counter[tuple[str, str]]()
    sample: list[str] = []
    audited = tests = 0
    unknown: list[str] = []
    portions: list[sources.Portion] = []
    try:
        portions = sources.portions(data)
    except UserError as error:
        unknown.append(str(error))
    for portion in portions:
        source, start = portion.source, len(sample)
        classes = source.classes
        if not isinstance(portion.part, Path):
            unknown.append(f"{source.name} ({portion.part}) is on the hub")
            continue
        for place, row in islice(portion.records(Path()), most):
            label = sources.plain_label(row.get(source.label_column or ""))
            labelled = classes.get(label, None if label in NOTHING else label) is not None
            role, split = portion.place_of(labelled)
            if role == "unlabelled":
                continue
            for text in sources.texts_of(source, place, row):
                origin = role, str(row.get(source.origin_column) or portion.name)
                counts[origin] += 1
                if role == "corpus" and counts[origin] > (data.max_corpus or counts[origin]):
                    continue
                found[role].append(len(text))
                audited += role == "corpus" and labelled
                tests += split == "test"
                if len(sample) < start + FEW:
                    sample.append(text)
    gold, corpus = (np.array(found[name], dtype=np.int64) for name in ("gold", "corpus"))
    if unknown:
        gold, corpus = (np.resize(c if len(c) else len(STAND_IN[0]), MANY) for c in (gold, corpus))
        audited = tests = 0
    share = 1 - data.validation_share - (0 if tests else data.test_share)
    train = min((len(gold) - tests) * share, data.max_gold_train or np.inf)
    order = np.random.default_rng(0).permutation(len(sample))[:FEW]
    return Texts(gold, corpus, train, audited, [sample[i] for i in order], unknown)


def configuration(params: RunParams) -> Any:
    """Of the run's model, from transformers; None if it is not here and no hub can be asked, or
    does not say what `lib.runs.plan` counts with."""
    from transformers import AutoConfig

    base: Any = params.steps[BASE]
    try:
        name = base.start_model or resolve(base.base_model)
        config = AutoConfig.from_pretrained(name, revision=base.base_revision)
    except (OSError, ValueError):
        return None
    return config if all(isinstance(getattr(config, size, None), int) for size in SIZES) else None


def measure(params: RunParams, run_dir: Path, sample: list[str]) -> dict[str, float]:
    """MEASURED, measured once: characters of a token, tokens per second of embedding and training.

    Raises:
        UserError: the model cannot be loaded.
    """
    step: Any = params.steps[BASE]
    on, model = hardware(step.precision, step.device), step.start_model or step.base_model
    options = step.only("max_tokens", *TRAINED_WITH)
    key = f"{model}@{step.base_revision}, {options}, {on}, {steps.machine()}"
    path = run_dir / CALIBRATION
    known = _read(path)
    if key not in known:
        encoder = new_classifier(
            model,
            pooling=step.pooling,
            max_tokens=step.max_tokens,
            seed=step.seed,
            revision=step.base_revision,
        )
        ids = encoder.tokenize(sample)
        both = [(len(text), len(row)) for text, row in zip(sample, ids, strict=True)]
        whole = [(text, row - 2) for text, row in both if 2 < row < encoder.max_tokens]
        characters, tokens = np.sum(whole, 0) if whole else (CHARACTERS, 1)
        predictor = Predictor(encoder, **on)
        predictor(ids[:8])
        started = time.perf_counter()
        predictor(ids)
        embedding = len(ids.ids) / (time.perf_counter() - started)
        encoder.model.get_input_embeddings().requires_grad_(not step.freeze_word_embeddings)
        if step.gradient_checkpointing:
            encoder.model.gradient_checkpointing_enable({"use_reentrant": False})
        known[key] = {
            "characters_per_token": max(1.0, characters / tokens),
            "embedding": embedding,
            "training": _train(encoder, ids, step.tokens_per_batch, **on),
        }
        write_json(path, known)
    return known[key]


def _read(path: Path) -> dict[str, dict[str, float]]:
    """What was measured before; nothing where it is damaged, or not all there."""
    entries = (read_record(path, dict) or {}).items()
    return {key: e for key, e in entries if isinstance(e, dict) and e.keys() == MEASURED}


def _train(
    encoder: Encoder, ids: Tokens, most: int | None, dtype: torch.dtype, device: torch.device
) -> float:
    """Tokens per second of optimiser steps on texts of one length; the first two do not count.

    Args:
        most: tokens at a time; None: a value that suits the device.
    """
    count, wanted = CALIBRATED[0], CALIBRATED[1] * (1 if device.type == "cpu" else 16)
    wanted = min(wanted, most or wanted)
    attend_fast(encoder.model, dtype, device)
    module: torch.nn.Module = encoder.model
    model = module.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    tokens, started = 0, 0.0
    for number in range(count):
        if number == 2:
            tokens, started = 0, time.perf_counter()
        elif number > 2 and time.perf_counter() - started > PATIENCE:
            break
        text = ids[number * len(ids) // count]  # they come in random order
        rows = [text] * max(1, wanted // len(text))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits, _ = classify(model, **pad(rows, encoder.pad_id, device), pooling="mean")
        logits.float().logsumexp(-1).sum().backward()  # as fast as a loss of labels
        optimiser.step()
        optimiser.zero_grad()
        float(logits.detach().sum())  # a GPU has finished then
        tokens += sum(map(len, rows))
    return tokens / (time.perf_counter() - started)
