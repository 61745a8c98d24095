import re
import subprocess
import sys

import numpy as np
import pytest

from lib.bench import corpus
from lib.cleaning import clean, text_id


def test_made_up_texts_have_the_stated_kinds():
    rng = np.random.default_rng(0)
    make = corpus.made_up_texts(rng)
    gold = [next(make) for _ in range(50)]
    gold_ids = {text_id(clean(text)) for text in gold}
    known, texts = [], []
    for _ in range(4000):
        texts.append(corpus.corpus_text(rng, make, known, gold))
    ids = [text_id(clean(text)) for text in texts]
    leaks = sum(i in gold_ids for i in ids)
    copies = len(ids) - len(set(ids)) - max(0, leaks - len(gold_ids))
    assert 1 <= leaks <= 20
    assert copies == pytest.approx(4000 * corpus.COPIES, rel=0.3)
    lengths = np.array([len(text.split()) for text in texts])
    assert 15 < np.median(lengths) < 40 and np.mean(lengths > 80) == pytest.approx(0.28, abs=0.06)


def test_blocks_share_out_the_seconds_of_parts():
    block = corpus.BLOCK
    lines = [
        {"stage": "read", "rows": block // 2, "seconds": 1.0},
        {"stage": "gold", "rows": 9, "seconds": 50.0},
        {"stage": "read", "rows": block, "seconds": 4.0},
        {"stage": "read", "rows": block // 2, "seconds": 3.0},
    ]
    assert corpus._blocks(lines, "read") == [3.0, 5.0]


@pytest.mark.slow
def test_the_benchmark_runs_is_killed_and_goes_on():
    command = [sys.executable, "-m", "lib", "bench", "corpus", "--texts", "50000", "--interrupt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    killed = int(re.search(r"killed after (\d+) parts", done.stdout).group(1))
    assert 1 <= killed < 6
    table = done.stdout.split("peak memory")[1]
    counts = {
        name: int(count.replace(",", ""))
        for count, name in re.findall(r"^ *([\d,]+) ([a-z].*)$", table, re.MULTILINE)
    }
    assert counts["read"] == 55_000
    dropped = sum(n for name, n in counts.items() if name != "read" and not name.startswith("kept"))
    assert counts["kept in corpus"] + counts["kept as gold"] + dropped == counts["read"]
    assert counts["twin of a gold text"] > 50 and counts["duplicate in corpus"] > 1000
    assert float(re.search(r"peak memory ([\d.]+) GiB", done.stdout).group(1)) < 2
