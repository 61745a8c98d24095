import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.data import language

FOREIGN = {
    "Ukrainian": """Дуже дякую, все прийшло вчасно і добре запаковане
        Не раджу нікому, грошей шкода
        Обслуговування жахливе, чекали годину
        Поїзд до Львова вирушає о шостій ранку""",
    "Belarusian": """Вялікі дзякуй, усё вельмі спадабалася
        Учора мы хадзілі ў лес па грыбы
        Надвор'е сёння добрае, цёпла і сонечна
        Цягнік спазніўся на дзве гадзіны""",
    "Bulgarian": """Много съм доволна от покупката, препоръчвам
        Времето днес е студено, но слънчево
        Вчера гледахме филм и се смяхме дълго
        Обслужването беше ужасно, чакахме цял час""",
    "Serbian": """Веома сам задовољна куповином, препоручујем
        Данас је хладно, али сунчано
        Јуче смо гледали филм и дуго се смејали
        Услуга је била ужасна, чекали смо цео сат""",
    "Kazakh": """Көп рахмет, маған өте ұнады
        Бүгін ауа райы суық, бірақ күн ашық
        Қызмет көрсету нашар, бір сағат күттік
        Телефон бір аптадан кейін бұзылып қалды""",
    "English": """Thank you very much, everything arrived on time
        The weather is cold today but sunny
        Terrible service, we waited for an hour
        Do not buy anything from this shop @shop https://t.co/abc""",
    "other scripts": """생일 축하합니다 생일 축하합니다
        الصمت لا يعني القبول دائما""",
}
RUSSIAN = """Спасибо большое, всё пришло вовремя
    Не советую никому, жалко денег
    Сегодня холодно, но солнечно
    Какая красивая песня
    Урааааааа каникулы наконец-то
    ахахахахахаха ну ты даёшь
    Тока што пасматрел, ваще атпад
    Продам iPhone 6s gold, состояние отличное
    Смотрел Five finger death punch, удивительные ребята
    Подъезд закрыт, объезд через двор
    Заехал в Київ на два дня, погулял по центру и вернулся обратно домой
    Телефон сломался через неделю после покупки
    Привет из Софии! Чакал не видела
    Мама, папа, я и брат"""


def lines(text):
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_texts(name):
    texts = lines(FOREIGN[name])
    assert [
        text for text, kept in zip(texts, language.is_russian(texts), strict=True) if kept
    ] == []


def test_russian_texts():
    texts = lines(RUSSIAN)
    found = language.is_russian(texts)
    assert found.dtype == bool
    assert [text for text, kept in zip(texts, found, strict=True) if not kept] == []


@pytest.mark.parametrize(
    "text", ["", "😀😀😀", ")))", "12345 67890 12345", "ok", "Дякую!", "lol wtf"]
)
def test_too_few_letters_to_judge(text):
    assert language.is_russian([text]).tolist() == [True]


def test_links_mentions_and_tags_do_not_count():
    text = "@somebody_long_name смотри https://example.org/very/long/address/of/a/page #nofilter"
    assert language.is_russian([text]).tolist() == [True]


def test_only_the_beginning_of_a_long_text_is_read():
    russian, english = "Очень длинный отзыв. " * 50, "A very long review. " * 50
    assert language.is_russian([russian + english, english + russian]).tolist() == [True, False]


@given(st.lists(st.text(max_size=40), max_size=5))
def test_each_text_is_judged_for_itself(texts):
    together = language.is_russian(texts)
    assert together.shape == (len(texts),)
    alone = [bool(language.is_russian([text])[0]) for text in texts]
    np.testing.assert_array_equal(together, np.array(alone, dtype=bool))
