"""Every entry against recorded rows of its data set, see tests/recorded/README.md."""

import json
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from lib import LABELS
from lib.data import hub as hub_module
from lib.data import sources
from lib.data.registry import REGISTRY, configured
from lib.errors import UserError
from lib.files import read_json
from lib.parameters import GoldDataParams

RECORDED = Path(__file__).parent / "recorded"
HUB = sorted(name for name, source in REGISTRY.items() if source.hub_id)
NEWEST = "0123456789abcdef0123456789abcdef01234567"
load_dataset = datasets.load_dataset  # the real one

GOLD, CORPUS = "gold", "corpus"


def unlabelled(*texts):
    return [(text, None, "", CORPUS, None) for text in texts]


# text, label, original label, role, split
EXPECTED = {
    "local": [("мне нравится", "positive", "positive", GOLD, None)],
    "rusentiment": [
        ("беда с погодой", "negative", "negative", GOLD, None),
        ("ура, каникулы", "positive", "positive", GOLD, None),
        ("еду домой", "neutral", "neutral", GOLD, "test"),
    ],
    "ru_tweetcorp": unlabelled(
        'опять "пробки" утром :((',
        "сдала экзамен :D ура)",
        "RT @user_c: лето (наконец) тут; ждали =)",
    ),
    "yandex_1m": unlabelled("Первое предложение.", "Второе «предложение», с запятой; и точкой."),
    "clapai_multilingual": [
        ("Отличный товар, беру второй раз", "positive", "positive", GOLD, None),
        ("Ужас, а не сервис", "negative", "Negative", GOLD, None),
        ("Пришло вчера", "neutral", "neutral", GOLD, None),
        ("Сойдёт за такие деньги", "neutral", "neutral", GOLD, "test"),
    ],
    "ru_reviews": [
        ("порвалось через день", "negative", "0", GOLD, None),
        ("нормально, но коротковато", "neutral", "1", GOLD, None),
        ("супер, сидит идеально", "positive", "2", GOLD, None),
        ("ткань тонкая", "neutral", "1", GOLD, None),
        ("беру ещё одно", "positive", "2", GOLD, "test"),
    ],
    "georeview": [
        ("Закрыто без объявления.", "negative", "0", CORPUS, None),
        ("Очередь и грязь.", "negative", "1", CORPUS, None),
        ("Обычная столовая.", "neutral", "2", CORPUS, None),
        ("Уютно, вернёмся.", "positive", "3", CORPUS, None),
        ("Лучший парк города!", "positive", "4", CORPUS, None),
    ],
    "georeview_long": unlabelled("Приятное место у реки."),
    "kinopoisk": [
        ("Скука на два часа.", "negative", "0", CORPUS, None),
        ("Фильм на один раз.", "neutral", "1", CORPUS, None),
        ("Шедевр, пересматриваю.", "positive", "2", CORPUS, None),
    ],
    "ria_news": unlabelled(
        "Мост открыли после ремонта\nДвижение по мосту возобновлено.", "Погода без изменений."
    ),
    "headlines": unlabelled("Сборная вышла в финал"),
    "cedr": unlabelled("вот это подарок, не ждала", "сегодня вторник"),
    "grnti": unlabelled("О росте кристаллов. Показано, что рост замедляется."),
    "oecd": unlabelled("О почвах степи. Описаны три типа почв."),
    "ru_sts": unlabelled(
        *("Кот спит на окне.", "Кошка дремлет у окна.", "Мальчик бежит.", "Женщина поёт."),
        *("Двое играют в шахматы.", "Люди сидят за доской."),
    ),
    "sensitive_topics": unlabelled("опять спорят о политике", "разговор о погоде"),
    "inappropriateness": unlabelled("обычная фраза", "фраза похуже"),
    "terra": unlabelled(
        *("Дождь идёт с утра.", "На улице сухо.", "Магазин закрылся в мае."),
        "Магазин больше не работает.",
    ),
}


def recorded_file(hub_id, config, split):
    return RECORDED / "hub" / hub_id / (config or "") / f"{split}.jsonl"


@pytest.fixture
def hub(monkeypatch):
    """The hub, with the recorded rows in it, read by the real library."""

    def load(hub_id, config=None, *, split, revision, streaming):
        known = {source.hub_id: source.revision for source in REGISTRY.values()}
        assert revision == (known[hub_id] or NEWEST)
        assert streaming
        file = recorded_file(hub_id, config, split)
        assert file.exists(), "no such split"
        return load_dataset("json", data_files={split: str(file)}, split=split, streaming=True)

    class Api:
        def dataset_info(self, hub_id, timeout):
            return huggingface_hub.DatasetInfo(id=hub_id, sha=NEWEST)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)


def params_of(name, **options):
    return GoldDataParams(
        sources=[name],
        data_dir=str(RECORDED / "data_dir"),
        unlabelled_gold="drop",
        local_labels="names",
        **options,
    )


def rows_of(params, commits=Path("none")):
    rows = [row for portion in sources.portions(params) for row in portion.rows(commits)]
    assert {row[4] for row in rows} == set(params.sources)
    return [(*row[:3], *row[5:7]) for row in rows if row[5] != "unlabelled"]


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "sample"])
def test_recorded_rows_of_every_source(name, hub, tmp_path):
    params = params_of(name, corpus_files=["none*"], test_files=["none*"], gold_files=["mine_*"])
    assert rows_of(params, tmp_path / "commits.json") == EXPECTED[name]


def test_every_recorded_split_is_read():
    splits = {
        recorded_file(REGISTRY[name].hub_id, REGISTRY[name].config, split)
        for name in HUB
        for split in REGISTRY[name].splits
    }
    assert splits == set((RECORDED / "hub").rglob("*.jsonl"))


def test_a_data_set_without_a_revision_is_read_at_one_commit(hub, tmp_path, monkeypatch):
    """The newest when it was first asked for, recorded for a run that goes on later."""
    (name,) = (name for name in HUB if not REGISTRY[name].revision)
    commits = tmp_path / "work" / "commits.json"
    first = rows_of(params_of(name), commits)
    assert read_json(commits) == {REGISTRY[name].hub_id: NEWEST}
    monkeypatch.delattr(huggingface_hub, "HfApi")
    assert rows_of(params_of(name), commits) == first
    assert sources.fingerprint(params_of(name))[name] == f"{REGISTRY[name].hub_id}@newest"


@pytest.mark.parametrize("content", ["null", "[]", "{"])
def test_damaged_commits_are_no_matter_of_the_network(tmp_path, content):
    (tmp_path / "commits.json").write_text(content)
    with pytest.raises(UserError, match=r"commits\.json is damaged; remove it, and the newest"):
        rows_of(params_of("clapai_multilingual"), tmp_path / "commits.json")


def test_a_commit_that_cannot_be_asked_for():
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(UserError, match=r"cannot read clapAI/.*HF_HUB_OFFLINE, use local"):
        rows_of(params_of("clapai_multilingual"))


@pytest.mark.parametrize("name", HUB)
def test_renamed_columns_name_source_expected_and_found(name, monkeypatch):
    source = REGISTRY[name]
    for column in source.columns:

        def load(hub_id, config=None, *, split, renamed=column, **options):
            lines = recorded_file(hub_id, config, split).read_text(encoding="utf-8").splitlines()
            for row in map(json.loads, lines):
                yield {("new_name" if key == renamed else key): value for key, value in row.items()}

        monkeypatch.setattr(datasets, "load_dataset", load)
        monkeypatch.setattr(hub_module, "commit", lambda source, commits: NEWEST)
        with pytest.raises(UserError) as error:
            rows_of(params_of(name))
        expected, found = str(error.value).split("found")
        for fragment in (f"'{name}'", source.hub_id, f"no column '{column}'", *source.columns):
            assert fragment in expected
        assert "new_name" in found and column not in found.split(",")


# --- mappings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "negative", "neutral", "positive"),
    [
        ("names", "negative", "neutral", "positive"),
        ("codes", "0 0.0", "1 1.0", "2 2,00"),
        ("signs", "-1 -1.0 −1", "0 0,0", "1 +1 1.0"),
        ("neutral_first", "2", "0", "1"),
        ("names", "neg Отрицательный", " NEUTRAL neautral", "Pos позитивная"),
        ("stars", "1 2 1.0", "3", "4 5 5.0 5,0"),
        ("ten_point", "1 2 3 4", "5 6 6.0", "7 8 9 10 10.0"),
    ],
)
def test_labels_of_your_own_files(tmp_path, choice, negative, neutral, positive):
    given = dict(zip(LABELS, (negative, neutral, positive), strict=True))
    expected = [(label, name) for name, labels in given.items() for label in labels.split()]
    lines = "".join(f'текст,"{label}"\n' for label, _ in expected)
    (tmp_path / "a_train.csv").write_text(f"text,label\n{lines}нет,\n", encoding="utf-8")
    params = GoldDataParams(sources=["local"], data_dir=str(tmp_path), local_labels=choice)
    found = rows_of(params)
    assert [row[1] for row in found] == [*(name for _, name in expected), None]
    if choice == "stars":
        assert [row[2] for row in found] == ["1", "2", "1", "3", "4", "5", "5", "5", ""]


def test_a_score_between_two_stars_is_no_label(tmp_path):
    (tmp_path / "a_train.csv").write_text("text,label\nтекст,4.5\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown label '4\.5'; expected 1, 2, 3, 4, 5 or nothing"):
        rows_of(GoldDataParams(sources=["local"], data_dir=str(tmp_path), local_labels="stars"))


# --- consistency ---------------------------------------------------------------------------------


def test_every_entry_says_what_it_must():
    for name, source in REGISTRY.items():
        mapped = bool(source.labels or source.label_choices)
        assert mapped == bool(source.label_column), name
        assert source.role == CORPUS or mapped, name
        assert source.test_split is None or source.test_split in source.splits, name
        assert source.hub_id or source.files or name in ("sample", "local")


def test_no_two_entries_are_the_same_data():
    ids = [source.hub_id.lower() for source in REGISTRY.values() if source.hub_id]
    files = [f for source in REGISTRY.values() for given in source.files.values() for f in given]
    assert len(set(ids)) == len(ids) and len(set(files)) == len(files)


def test_unknown_and_repeated_sources():
    with pytest.raises(UserError, match=r"'samle'.*nearest valid name is 'sample'"):
        configured(GoldDataParams(sources=["samle"]))
    with pytest.raises(UserError, match="sample is listed twice"):
        configured(GoldDataParams(sources=["sample", "sample"]))
