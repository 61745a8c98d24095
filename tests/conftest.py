"""Fixtures shared by all tests: no network, one thread, and a tiny real ModernBERT."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# read once when the hub's library is imported, so they are set before any import of it
_HOME = tempfile.TemporaryDirectory(prefix="hub-")
os.environ["HF_HOME"] = _HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# tests run two at a time: processes that wait for each other's cores are several times slower
os.environ["OMP_NUM_THREADS"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

from browser import SKIPPED, browser_page, chromium  # noqa: E402, F401 (fixtures)
from lib.models import embedded  # noqa: E402

# a slow example is a busy machine, not a bug
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

SENTENCES = [
    "Ужасно плохо, всё сломалось и никто не помог",
    "Какой кошмар, отвратительный сервис и грубый персонал",
    "Обычный день, ничего не случилось, поехал на работу",
    "Магазин открыт с девяти до шести, адрес на сайте",
    "Прекрасно, очень доволен, спасибо большое!",
    "Отличный фильм, смеялись всей семьёй 😊",
    "Не хорошо и не плохо, сойдёт",
]
SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the longest tests first, so that no worker is left with one at the end; tests
    for a GPU only where there is one."""
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch sees no GPU"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    first = ["test_pipeline.py", "test_demo.py"]
    items.sort(key=lambda item: (item.path.name not in first, item.path not in slow))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in plain words if tests in a browser were left out."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(SKIPPED in str(report.longrepr) for report in skipped)
    if count:
        line = f"{count} browser tests were SKIPPED: {SKIPPED}"
        terminalreporter.section("browser", yellow=True)
        terminalreporter.line(line, yellow=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny models are fastest on one thread; UMAP (numba) sets the number back to all cores."""
    torch.set_num_threads(1)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """BPE trained on SENTENCES, with special tokens as in BERT."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, SPECIAL[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a two-layer ModernBERT with random weights, in Hugging Face format."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny-modernbert")


def write_tiny_checkpoint(directory: Path) -> str:
    """See `tiny_checkpoint`."""
    tokenizer = tiny_tokenizer()
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 1024,
        "local_attention": 64,
        "pad_token_id": SPECIAL["[PAD]"],
        "cls_token_id": SPECIAL["[CLS]"],
        "bos_token_id": SPECIAL["[CLS]"],
        "sep_token_id": SPECIAL["[SEP]"],
        "eos_token_id": SPECIAL["[SEP]"],
        # the default 0.02 makes so small a network nearly blind to its input
        "initializer_range": 0.2,
    }
    if hasattr(ModernBertConfig(), "reference_compile"):
        settings["reference_compile"] = False
    torch.manual_seed(0)
    ModernBertModel(ModernBertConfig(**settings)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a two-layer BERT with random weights and no pooler, as the embedded model."""
    directory = tmp_path_factory.mktemp("models") / "tiny-bert"
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=1024,
        pad_token_id=SPECIAL["[PAD]"],
        initializer_range=0.2,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def embedded_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache folder that holds the converted embedded model (seconds and half a gigabyte)."""
    directory = tmp_path_factory.mktemp("embedded")
    embedded.checkpoint(directory)
    yield directory
    shutil.rmtree(directory)
