import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import emoticons

EMOTICONS = [
    *(":)", ":-)", ";)", "=)", ":]", ":-))))", "))", ")))", ":D", "=D", ":-D", "xD", "XDD", ":P"),
    *(":(", ":-(", "=(", ":'(", ":((", "((", "(((", ":[", ":/", ":-\\", "D:", ":С", ">:("),
    *("^_^", "^^", ">_<", "-_-", "T_T", "o_O", "О_о", "<3", "</3", ":*", ":-*", ":3", "(:"),
    *("😊", "😭", "☺", "❤️", "🙂"),
]


@pytest.mark.parametrize("emoticon", EMOTICONS)
def test_an_emoticon_goes_wherever_it_stands(emoticon):
    assert emoticons.strip(emoticon) == ""
    assert emoticons.strip(f"сдала экзамен {emoticon}") == "сдала экзамен"
    assert emoticons.strip(f"{emoticon} сдала {emoticon}, ура") in ("сдала , ура", "сдала, ура")


@pytest.mark.parametrize("emoticon", [")", "))", "(", "(((", ":)", "=(", ":D", ":'("])
def test_right_after_a_word(emoticon):
    assert emoticons.strip(f"сдала экзамен{emoticon}") == "сдала экзамен"
    assert emoticons.strip(f"сдала{emoticon} и ладно") == "сдала и ладно"


@pytest.mark.parametrize(
    "text",
    [
        "встреча (в среду) отменена",
        "(важно): купить хлеб",
        "http://t.co/abc и https://ya.ru/",
        "счёт 2:3, начало в 19:00",
        "он сказал: да; она — нет",
        "цена=300, а не 400!",
        "Огонь, 100% 👍 🔥",
        "ID: 5",
    ],
)
def test_the_rest_of_a_text_stays(text):
    assert emoticons.strip(text) == text


WORDS = st.sampled_from(
    ["сдала", "экзамен", "в", "19:00", "(да)", "лето,", "ура!", "http://t.co/a"]
)


@given(st.lists(WORDS | st.sampled_from([*EMOTICONS, ")", "("]), max_size=12))
def test_words_stay_in_order_and_no_emoticon_does(parts):
    stripped = emoticons.strip(" ".join(parts))
    letters = re.findall(r"[а-я0-9]+", " ".join(part for part in parts if part not in EMOTICONS))
    assert re.findall(r"[а-я0-9]+", stripped) == letters
    assert not {*EMOTICONS, ")", "("} & set(stripped.split())
    assert stripped.count("(") == stripped.count(")")


@given(st.text(st.sampled_from(":;=-()[]DxX^_<>3оО/ аб\n"), max_size=30))
def test_nothing_is_left_to_strip(text):
    stripped = emoticons.strip(text)
    assert emoticons.strip(stripped) == stripped
