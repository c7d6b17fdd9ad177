"""The built-in text: its entropy counted another way, and no text with two derivations."""

import math
from collections import Counter
from itertools import product

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks.lm.corpus import END
from fastrnn.tasks.lm.grammar import Grammar, japanese


def probability(grammar, text):
    """Of a document given as characters, summed over all its derivations: the inside algorithm, which knows nothing
    of how the text was drawn."""
    known = {}

    def spans(symbol, start):
        """Where a part of the text that begins at `start` and derives from `symbol` may end: {end: probability}."""
        if symbol not in grammar.rules:
            token = "\n" if symbol == END else symbol
            return {start + len(token): 1.0} if text.startswith(token, start) else {}
        if (symbol, start) not in known:
            found = Counter()
            for p, parts in grammar.rules[symbol]:
                ends = {start: p}
                for part in parts:
                    following = Counter()
                    for end, so_far in ends.items():
                        for after, q in spans(part, end).items():
                            following[after] += so_far * q
                    ends = following
                found.update(ends)
            known[symbol, start] = found
        return known[symbol, start]

    return spans("START", 0).get(len(text), 0.0)


def written(sample):
    return "".join("".join(line) + "\n" for line in sample.lines)


def test_a_text_has_one_derivation_and_the_probability_it_was_drawn_with():
    # were there a second one, even of the same characters cut into other words, the sum would be greater
    for seed in range(60):
        sample = japanese().sample(seed, 1)
        assert math.log(probability(japanese(), written(sample))) == pytest.approx(-sample.nats, rel=1e-9), seed


def test_the_entropy_of_a_grammar_counted_by_enumerating_its_texts():
    g = Grammar()
    g.add("START", (3, f"A A {END}"), (1, f"A x B {END}"))
    g.add("A", (1, "a"), (2, "bb B"))
    g.add("B", (1, "c"), (1, "d"), (2, "ef"))
    a = {"a": 1 / 3, "bbc": 1 / 6, "bbd": 1 / 6, "bbef": 1 / 3}
    b = {"c": 1 / 4, "d": 1 / 4, "ef": 1 / 2}
    tokens = {text: 1 if text == "a" else 2 for text in a}
    texts = [(3 / 4 * a[x] * a[y], tokens[x] + tokens[y] + 1, len(x + y) + 1) for x, y in product(a, a)]
    texts += [(1 / 4 * a[x] * b[y], tokens[x] + 3, len(x + y) + 2) for x, y in product(a, b)]
    assert sum(p for p, _, _ in texts) == pytest.approx(1)
    nats, n, characters = g.expected()
    assert nats == pytest.approx(-sum(p * math.log(p) for p, _, _ in texts), rel=1e-12)
    assert n == pytest.approx(sum(p * k for p, k, _ in texts), rel=1e-12)
    assert characters == pytest.approx(sum(p * k for p, _, k in texts), rel=1e-12)


def test_a_recursive_grammar():
    g = Grammar()
    g.add("START", (1, "x START"), (1, END))  # a geometric number of x: 2 bits in all, one x on average
    nats, tokens, characters = g.expected()
    assert (nats, tokens, characters) == pytest.approx((2 * math.log(2), 2, 2))


def test_the_entropy_of_the_japanese_grammar_by_sampling():
    nats, tokens, characters = japanese().expected()
    sample = japanese().sample(7, 120_000)
    counted = sum(len(line) + 1 for line in sample.lines)
    # 1,700 documents: the ratio of sums has a standard error of about 0.2 %
    assert sample.nats / counted == pytest.approx(nats / tokens, rel=0.01)
    assert len(written(sample)) / counted == pytest.approx(characters / tokens, rel=0.01)


def test_the_text_is_varied_and_the_same_for_a_seed():
    sample = japanese().sample(1, 30_000)
    assert japanese().sample(1, 30_000) == sample != japanese().sample(2, 30_000)
    assert len({token for line in sample.lines for token in line}) > 450
    lines = Counter(map("".join, sample.lines))
    del lines[""]
    assert len(lines) > 0.9 * sum(lines.values()), "lines seldom stand twice"


def test_far_words_agree():
    counters, polite = {"犬": "匹", "辞書": "冊", "切符": "枚", "時計": "台"}, 0
    for line in japanese().sample(1, 60_000).lines:
        for noun, counter in counters.items():
            for follows in [line[k + 3] for k, token in enumerate(line[:-3]) if token == noun and
                            line[k + 1] in "がを" and line[k + 2] in "一二三四五六七八九十"]:  # fmt: skip
                assert follows == counter, line
        if "決して" in line:
            assert any(word.endswith("ない") for word in line) or "ん" in line, line
        if "昨日" in line:
            assert line[-2] == "た" or line[-2][-1] in "ただ", line
        polite += "です" in line or "ます" in line
    assert polite > 100
