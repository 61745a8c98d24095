"""What a run will need: counted, refused, and shown before anything starts."""

import os
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModel, DistilBertConfig

from lib import files
from lib.__main__ import main
from lib.data.tables import write_corpus
from lib.errors import UserError
from lib.parameters import STEPS
from lib.runs import fingerprints, known, parameter_files, plan
from test_runner import DEMO, FULL, LOCAL

DATA, BASE, EMBED, FINAL = "01_gold_data", "02_base_classifier", "03_embed_corpus", plan.FINAL


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(known, "CALIBRATED", (3, 64))


def load(file, *given):
    return parameter_files.load(file, list(given))


def fit_into(monkeypatch, gib):
    monkeypatch.setattr(plan, "machine", lambda step: (0, int(gib * plan.GIB)))


@pytest.mark.parametrize("name", ["tiny_checkpoint", "tiny_bert"])
def test_memory_of_training_is_what_autograd_keeps(name, request):
    path = request.getfixturevalue(name)
    model, kept = AutoModel.from_pretrained(path).train(), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(torch.full((8, 64), 7), torch.ones(8, 64), output_hidden_states=True)
    step = load(DEMO, "precision=float32", "02.batch_size=8", f"base_model={path}").steps[BASE]
    config = AutoConfig.from_pretrained(path)
    one, two = (plan.memory(BASE, step, config, np.empty(0), n)[1] for n in (0, 64))
    assert 1 / 1.5 < (two - one) / sum(kept.values()) < 1.5
    assert output.hidden_states


def test_memory_grows_with_what_can_be_lowered(tiny_bert):
    config, lengths = AutoConfig.from_pretrained(tiny_bert), np.full(10_000, 50.0)

    def needs(name, *given):
        return plan.memory(name, load(DEMO, *given).steps[name], config, lengths, 50)[1]

    assert needs(BASE, "batch_size=64") > needs(BASE, "batch_size=64", "02.tokens_per_batch=64")
    assert needs(BASE) > needs(BASE, "02.gradient_checkpointing=true")
    assert needs(FINAL, "freeze_word_embeddings=false") > needs(FINAL)
    assert needs(EMBED, "03.tokens_per_batch=4096") > needs(EMBED)
    assert needs(EMBED, "shard_size=5000") > needs(EMBED)
    # a batch is never more than its texts, whatever the budget
    assert needs(BASE) == needs(BASE, "02.tokens_per_batch=9999999")


def test_what_cannot_fit_is_refused_before_anything_starts(
    tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    fit_into(monkeypatch, 0.1)
    arguments = ["-p", f"base_model={tiny_checkpoint}", "--outputs", str(tmp_path)]
    assert main(["run", DEMO, *arguments]) == 2
    message = capsys.readouterr().err
    assert "02_base_classifier needs about 0.7 GiB of memory, and there are 0.1" in message
    assert "02_base_classifier.tokens_per_batch" in message and "base_model" in message
    assert not list(tmp_path.glob("demo/0*"))


def test_what_may_fit_is_not_refused(tiny_checkpoint, tmp_path, monkeypatch):
    """Neither a little more than there is, nor a large budget that no batch will fill."""
    fit_into(monkeypatch, 0.6)
    params = load(DEMO, f"base_model={tiny_checkpoint}", "tokens_per_batch=99999999")
    plan.check(params, list(params.steps), tmp_path)
    plan.check(load(FULL), [BASE], tmp_path)  # nothing is known of its model


def test_embeddings_that_the_disk_has_no_room_for_are_refused(
    tiny_checkpoint, tmp_path, monkeypatch
):
    params = load(DEMO, f"base_model={tiny_checkpoint}", "pca_dimensions=32")
    folder = tmp_path / "demo" / DATA
    gold = pd.DataFrame({"text": ["да", "нет"], "source": "a", "split": ["train", "test"]})
    files.write_parquet(folder / "tables" / "gold.parquet", gold)
    corpus = pd.DataFrame({"text_id": "0", "text": ["ой"] * 900, "source": "b", "audit_label": 1})
    (folder / "tables" / "corpus").mkdir()
    write_corpus(corpus, folder / "tables" / "corpus" / "part-0.parquet")
    manifest = {"parameters": params.steps[DATA].model_dump(mode="json")}
    manifest["external"] = fingerprints.external(DATA, params.steps[DATA])
    files.write_json(folder / "manifest.json", manifest | {"bytes": files.lengths(folder)})
    texts = known.read_texts(params, tmp_path / "demo")
    assert (len(texts.gold), len(texts.corpus), texts.train, texts.audited) == (2, 900, 1, 900)
    plan.check(params, [EMBED], tmp_path / "demo")
    usage = plan.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: usage._replace(free=9))
    held = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert (
        held
        < plan.disk(EMBED, params.steps[EMBED], AutoConfig.from_pretrained(tiny_checkpoint), texts)
        / plan.MARGIN
    )
    with pytest.raises(UserError, match=r"max_corpus or 03_embed_corpus\.pca_dimensions"):
        plan.check(params, [EMBED], tmp_path / "demo")
    about = files.read_json(folder / "manifest.json")
    files.write_json(folder / "manifest.json", about | {"external": {"a.csv": "is gone"}})
    assert not known.read_texts(params, tmp_path / "demo").complete
    files.write_json(folder / "manifest.json", about)
    assert known.read_texts(params, tmp_path / "demo").complete
    os.truncate(folder / "tables" / "gold.parquet", 100)  # 01 will make it again
    assert not known.read_texts(params, tmp_path / "demo").complete


def test_a_plan_of_the_demo_is_measured_once(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    arguments = ["-p", f"base_model={tiny_checkpoint}", "--outputs", str(tmp_path), "--plan"]
    assert main(["run", DEMO, *arguments]) == 0
    shown = capsys.readouterr().out
    for step in STEPS:
        assert step in shown
    assert " 2,720 " in shown.splitlines()[1]  # texts of the sample
    assert "not known" not in shown and "NOT FIT" not in shown
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [known.CALIBRATION]
    monkeypatch.setattr(known, "new_classifier", None)
    assert main(["run", DEMO, *arguments]) == 0
    assert capsys.readouterr().out == shown
    fit_into(monkeypatch, 0.1)
    main(["run", DEMO, *arguments, "--only", "05"])
    assert "DOES NOT FIT: 05_metric_learning needs about" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "null", "[1]", '{"KEY": {"embedding": 1.0}}'])
def test_a_damaged_calibration_counts_as_not_there(content, tiny_checkpoint, tmp_path, monkeypatch):
    """Texts that were cut at max_tokens say nothing about the characters of a token."""
    monkeypatch.setattr(known, "_train", lambda *_, **__: 5.0)
    params, path = load(DEMO, f"base_model={tiny_checkpoint}", "max_tokens=16"), tmp_path / "x"
    short = ["хорошо", "плохо"]
    found = known.measure(params, path, short)
    (key,) = files.read_json(path / known.CALIBRATION)
    (path / known.CALIBRATION).write_text(content.replace("KEY", key), encoding="utf-8")
    again = known.measure(params, path, [*short, "хорошо " * 500])
    assert again["characters_per_token"] == found["characters_per_token"] < 7
    assert files.read_json(path / known.CALIBRATION) == {key: again}


def test_an_unknown_architecture_is_not_known(tmp_path, capsys):
    DistilBertConfig().save_pretrained(tmp_path / "model")
    params = load(DEMO, f"base_model={tmp_path / 'model'}")
    plan.check(params, list(params.steps), tmp_path)
    assert "its architecture is not known" in plan.describe(params, list(params.steps), tmp_path)


def test_masks_where_there_is_no_flash_attention(tiny_checkpoint, monkeypatch):
    on = {"dtype": torch.bfloat16, "device": torch.device("cuda")}
    monkeypatch.setattr(plan, "hardware", lambda *_: on)
    config, lengths = AutoConfig.from_pretrained(tiny_checkpoint), np.full(1000, 200.0)
    layers = config.num_hidden_layers

    def needs(flash, *given):
        monkeypatch.setattr(plan, "has_flash_attention", lambda **_: flash)
        step = load(DEMO, "02.batch_size=8", *given).steps[BASE]
        return plan.memory(BASE, step, config, lengths, 200)[0]

    for given, each in ((), layers), (("02.gradient_checkpointing=true",), 1):
        masks = needs(False, *given) - needs(True, *given)
        assert masks == each * 2 * 200 * (8 * 200)


def test_a_calibration_that_fills_the_gpu_leaves_the_time_unknown(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(known, "measure", mock.Mock(side_effect=torch.OutOfMemoryError))
    params = load(DEMO, f"base_model={tiny_checkpoint}")
    shown = plan.describe(params, list(params.steps), Path("x"))
    assert "not known: time of steps with a model" in shown
    (row,) = (line for line in shown.splitlines() if line.strip().startswith("02_base"))
    assert row.split()[-1] == "?"


def test_a_label_that_is_called_nothing_may_have_a_class(tmp_path):
    (tmp_path / "a_train.csv").write_text("text,label\nда,none\nнет,bad\nой,\n", "utf-8")
    mapping = "local_labels={negative: [bad], neutral: [none], positive: [good]}"
    texts = known.read_texts(load(LOCAL, f"data_dir={tmp_path}", mapping), tmp_path)
    assert (len(texts.gold), len(texts.corpus)) == (2, 1)


def test_a_plan_of_own_texts_counts_them(tiny_checkpoint, tmp_path, capsys):
    gold = "text,label\n" + "хорошо,positive\nплохо,negative\nну,neutral\nбез метки,\n" * 10
    (tmp_path / "a_train.csv").write_text(gold, encoding="utf-8")
    (tmp_path / "b.csv").write_text("text,label\nда,1\nнет,\n", encoding="utf-8")
    params = load(LOCAL, f"data_dir={tmp_path}")
    texts = known.read_texts(params, tmp_path)
    assert (len(texts.gold), len(texts.corpus), texts.audited) == (30, 12, 1)
    assert texts.train == pytest.approx(30 * (1 - 0.1 - 0.15))
    limited = known.read_texts(load(LOCAL, f"data_dir={tmp_path}", "max_corpus=10"), tmp_path)
    assert len(limited.corpus) == 12  # 10 of one file, 2 of the other
    dropped = known.read_texts(
        load(LOCAL, f"data_dir={tmp_path}", "unlabelled_gold=drop"), tmp_path
    )
    assert len(dropped.corpus) == 2
    options = ["-p", f"data_dir={tmp_path}", "-p", f"base_model={tiny_checkpoint}", "--plan"]
    assert main(["run", LOCAL, *options, "--outputs", str(tmp_path / "outputs")]) == 0
    assert " 42 " in capsys.readouterr().out.splitlines()[1]


def test_a_plan_of_the_full_configuration_says_what_it_does_not_know(tmp_path, capsys):
    assert main(["run", FULL, "--plan", "--outputs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "no configuration of 'jhu-clsp/mmBERT-base'" in shown
    assert "is not a folder" in shown and "100,000 texts each" in shown and "?" in shown
    options = ["-p", "sources=[clapai_multilingual, sample]"]
    assert main(["run", FULL, "--plan", "--outputs", str(tmp_path), *options]) == 0
    assert "not known: clapai_multilingual" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
