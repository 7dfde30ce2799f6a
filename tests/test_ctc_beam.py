"""CTC prefix beam search: against the sum over all alignments, in pieces, with a language model and a bias."""

import itertools
import math
import re

import numpy as np
import pytest
from speechc.compiler.decode.arpa import LN10, Kenlm, open_lm, read_arpa
from speechc.compiler.decode.bias import Bias, read_phrases
from speechc.compiler.decode.ctc_beam import CTCBeam
from speechc.compiler.decode.fusion import TokenFusion, WordFusion
from speechc.compiler.decode.prefix import log_softmax
from speechc.compiler.decode.vocabulary import Vocabulary
from speechc.compiler.words import Greedy
from speechc.ir.errors import UsageError

ALL = 10**6  # a beam that holds every prefix
# Sums of the same numbers in another order, float64.
CLOSE = {"rel": 1e-12, "abs": 1e-12}

ARPA = """\
\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-1.2 <unk> -0.1
-99 <s> -0.3
-0.9 </s>
-0.6 a -0.25
-0.8 ab -0.15
-1.1 b

\\2-grams:
-0.2 <s> a -0.05
-0.7 a b
-0.4 a </s>
-0.3 ab a

\\3-grams:
-0.1 <s> a b

\\end\\
"""
LETTERS = ["<blank>", "a", "b", "|"]
PIECES = ["<blank>", "\u2581a", "\u2581ab", "b", "\u2581"]
WORDS = ["<blank>", "a", "ab", "b"]


def random(frames, classes, seed=0, scale=1.5):
    rng = np.random.default_rng(seed)
    return log_softmax(scale * rng.standard_normal((frames, classes)))


def collapsed(path, blank):
    return tuple(t for t, _ in itertools.groupby(path) if t != blank)


def posterior(rows, blank):
    """{labelling: log-probability}, over every alignment there is; {labelling: its likeliest alignments}."""
    total, best = {}, {}
    for path in itertools.product(range(rows.shape[1]), repeat=len(rows)):
        score, labels = sum(rows[range(len(rows)), path]), collapsed(path, blank)
        total[labels] = np.logaddexp(total.get(labels, -np.inf), score)
        best.setdefault(labels, []).append((score, path))
    return total, best


def first_frames(path, blank):
    """The frame at which an alignment first emits each token."""
    return tuple(i for i, t in enumerate(path) if t != blank and (i == 0 or path[i - 1] != t))


def search(rows, beam=ALL, blank=0, scorers=(), count=ALL, pieces=(), **more):
    decoder = CTCBeam(beam, blank, scorers, **more)
    for piece in np.split(rows, pieces):
        decoder.push(piece)
    return decoder.best(count, final=True)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_every_labelling_has_its_exact_probability(frames, blank):
    rows = random(frames, 3, frames)
    total, best = posterior(rows, blank)
    found = search(rows, blank=blank)
    assert {h.tokens for h in found} == set(total)
    assert sum(math.exp(h.acoustic) for h in found) == pytest.approx(1, **CLOSE)
    for h in found:
        assert h.acoustic == pytest.approx(total[h.tokens], **CLOSE) and h.score == h.acoustic
        likeliest = max(best[h.tokens])[1]
        assert h.frames == first_frames(likeliest, blank)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_classes_without_probability_are_left_out():
    rows = random(4, 3)
    rows[1, 2] = rows[3, 0] = -np.inf
    total, _ = posterior(rows, 0)
    found = {h.tokens: h.acoustic for h in search(rows)}
    assert set(found) == {t for t, p in total.items() if p > -np.inf}
    assert all(p == pytest.approx(total[t], **CLOSE) for t, p in found.items())
    for value in (np.nan, -np.inf):
        with pytest.raises(UsageError, match="frame 2") as caught:
            search(np.concatenate([rows[:2], np.full((1, 3), value)]), beam=4)
        assert caught.value.code == "SC091"


def test_what_comes_in_pieces_is_the_whole():
    rows = random(40, 6, 3)
    whole = search(rows, beam=5, count=5)
    assert len(whole) == 5
    for pieces in ([1], [20], [0, 7, 7, 30, 40], range(1, 40)):
        assert search(rows, beam=5, count=5, pieces=pieces) == whole


def test_a_beam_keeps_as_many_and_a_wider_one_finds_no_worse():
    rows = random(30, 8, 4)
    scores = [search(rows, beam=n)[0].score for n in (1, 2, 4, 16, 64)]
    assert len(search(rows, beam=7)) == 7
    assert scores[-1] > scores[0] and all(b >= a - 1e-9 for a, b in itertools.pairwise(scores))


def test_a_prefix_that_returns_is_the_same_prefix():
    # In a narrow beam "a" leaves while "ab" stays, and comes back: it must not become a second one. It does so here.
    for seed in (52, 91, 114):
        found = search(random(20, 3, seed, 1.0), beam=5)
        assert len({h.tokens for h in found}) == len(found)


def peaked(frames, classes, seed):
    """Frames whose likeliest class has a probability just above 3/4."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(classes), frames) * 0.2499
    rows[range(frames), rng.integers(0, classes, frames)] += 0.7501
    return np.log(rows)


@pytest.mark.parametrize("seed", range(20))
def test_a_beam_of_one_is_greedy_where_frames_are_clear(seed):
    rows = peaked(30, 4, seed)
    greedy = Greedy(list("_abc"), 0)
    greedy.add(rows[None])
    assert search(rows, beam=1)[0].tokens == tuple(greedy.said)


def test_a_beam_of_one_is_not_greedy_elsewhere():
    rows = np.log([[0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])  # "a" goes on by 0.6, as blank or as a; b has 0.4
    assert collapsed(rows.argmax(1), 0) == (1, 2)
    assert search(rows, beam=1)[0].tokens == (1,)


def test_a_floor_leaves_out_what_is_unlikely():
    rows = np.log([[0.5, 0.4, 0.1]] * 3)
    assert any(2 in h.tokens for h in search(rows, floor=-2.0))
    assert not any(2 in h.tokens for h in search(rows, floor=-1.0))


# -- language models ---------------------------------------------------------------------------------------------------
def arpa():
    return read_arpa(ARPA.splitlines())


def test_backoff_by_hand():
    model = arpa()

    def log10(*words):
        state, total = model.start(), []
        for w in words:
            got, state = model.next(state, w)
            total.append(got / LN10)
        return [*total, model.end(state) / LN10]

    assert log10("a", "b") == pytest.approx([-0.2, -0.1, -0.9])
    assert log10("ab", "a", "b") == pytest.approx([-0.3 - 0.8, -0.3, -0.7, -0.9])
    assert log10("a", "a") == pytest.approx([-0.2, -0.05 - 0.25 - 0.6, -0.4])
    assert log10("zz", "b") == pytest.approx([-0.3 - 1.2, -0.1 - 1.1, -0.9])


def test_kenlm_says_the_same(tmp_path):
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed")
    path, tabbed = tmp_path / "lm.arpa", lambda found: "\t".join(filter(None, found.groups()))
    path.write_text(re.sub(r"^(-[\d.]+) (.*?)(?: (-[\d.]+))?$", tabbed, ARPA, flags=re.M))  # it wants tabs
    other, model, wrapped = kenlm.Model(str(path)), open_lm(path), Kenlm(path)
    for n in range(5):
        for words in itertools.product(["a", "ab", "b", "zz"], repeat=n):
            for lm in (model, wrapped):
                state, total = lm.start(), 0.0
                for w in words:
                    got, state = lm.next(state, w)
                    total += got
                # kenlm holds float32.
                assert total + lm.end(state) == pytest.approx(LN10 * other.score(" ".join(words)), rel=1e-5)
    # What is fused remembers by state: equal histories must be one.
    states = [wrapped.next(wrapped.next(wrapped.start(), "ab")[1], "a")[1] for _ in range(2)]
    assert len(set(states)) == 1 and "ab" in wrapped and "zz" not in wrapped


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda t: t.replace("\\end\\", ""), "no end"),
        (lambda t: t.replace("\\data\\", ""), "no head"),
        (lambda t: t.replace("ngram 2=4", "ngram 2=5"), "4 2-grams"),
        (lambda t: t.replace("-0.7 a b", "x a b"), "not a 2-gram"),
        (lambda t: t.replace("-0.7 a b", "-0.7 a"), "not a 2-gram"),
        (lambda t: t.replace("-0.7 a b", "nan a b"), "not a 2-gram"),
        (lambda t: t.replace("\\2-grams:", "\\3-grams:"), "due"),
        (lambda t: t.replace("\\3-grams:\n-0.1 <s> a b\n", ""), "ends after 2-grams of 3"),
        (lambda t: t.replace("ngram 1=6", "ngram one"), "not a count"),
    ],
)
def test_malformed_models_are_refused(tmp_path, change, says):
    path = tmp_path / "lm.arpa"
    path.write_text(change(ARPA))
    with pytest.raises(UsageError, match=says) as caught:
        open_lm(path)
    assert caught.value.code == "SC092"


def test_a_word_without_probability_costs_what_an_unknown_one_does():
    model = read_arpa(ARPA.replace("-0.6 a -0.25", "-inf a -0.25").splitlines())
    assert model.next(model.start(), "b")[0] > model.next((), "a")[0] == LN10 * -100


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "noise.arpa").write_bytes(bytes(range(256)))
    (tmp_path / "cut.gz").write_bytes(b"\x1f\x8b\x08")
    for name in ("noise.arpa", "cut.gz"):
        with pytest.raises(UsageError) as caught:
            open_lm(tmp_path / name)
        assert caught.value.code == "SC092"
    with pytest.raises(UsageError, match="does not exist"):
        open_lm(tmp_path / "none.arpa")


def by_hand(text, model, weight, bonus):
    """What a word model adds to a text."""
    total, words = 0.0, text.split()
    for i, word in enumerate(words):
        history, lost = ["<s>", *words[:i]], 0.0
        known = word if (word,) in model.grams else "<unk>"
        for start in range(max(0, len(history) - 2), len(history) + 1):
            context = tuple(w if (w,) in model.grams else "<unk>" for w in history[start:])
            if (*context, known) in model.grams:
                total += weight * LN10 * (lost + model.grams[(*context, known)][0]) + bonus
                break
            lost += model.grams.get(context, (0, 0))[1]
    history, lost = ["<s>", *(w if (w,) in model.grams else "<unk>" for w in words)], 0.0
    for start in range(max(0, len(history) - 2), len(history) + 1):
        context = tuple(history[start:])
        if (*context, "</s>") in model.grams:
            return total + weight * LN10 * (lost + model.grams[(*context, "</s>")][0])
        lost += model.grams.get(context, (0, 0))[1]
    raise AssertionError


def covered(text, phrases, boost):
    """What a bias adds to a text: letters that lie in a phrase between spaces, each once."""
    text = f" {' '.join(text.split())} "
    inside = set()
    for phrase in phrases:
        for found in re.finditer(f"(?=( {phrase} ))", text):
            inside.update(range(found.start(), found.start() + len(phrase) + 2))
    return boost * sum(text[i] != " " for i in inside)


def spelled(vocabulary, tokens):
    return " ".join("".join(vocabulary.spelled[t] for t in tokens).split())


@pytest.mark.parametrize("names", [LETTERS, PIECES, WORDS], ids=["letters", "pieces", "words"])
@pytest.mark.parametrize("fused", ["lm", "bias", "both", "bonus"])
def test_fusion_is_what_the_text_is_worth(names, fused):
    rows, model = random(5, len(names), 7), arpa()
    vocabulary, phrases = Vocabulary(names, 0), ["ab", "a b", "b a b"] if names is not WORDS else ["ab", "a b", "b a"]
    scorers, worth = [], lambda text: 0.0
    if fused in ("lm", "both"):
        scorers.append(WordFusion(model, vocabulary, 0.7, 0.4))
        worth = lambda text: by_hand(text, model, 0.7, 0.4)
    if fused == "bonus":
        scorers.append(WordFusion(None, vocabulary, 0.7, 0.4))
        worth = lambda text: 0.4 * len(text.split())
    if fused in ("bias", "both"):
        scorers.append(Bias(phrases, vocabulary, 1.3))
        before = worth
        worth = lambda text: before(text) + covered(text, phrases, 1.3)
    total, _ = posterior(rows, 0)
    found = search(rows, scorers=scorers)
    assert {h.tokens for h in found} == set(total)
    for h in found:
        assert h.acoustic == pytest.approx(total[h.tokens], **CLOSE)
        assert h.score == pytest.approx(total[h.tokens] + worth(spelled(vocabulary, h.tokens)), **CLOSE), h
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert [h.tokens for h in found] != sorted(total, key=total.get, reverse=True)  # else the scorers decided nothing


def test_a_model_over_tokens():
    rows, model, vocabulary = random(4, 4, 9), arpa(), Vocabulary(["<blank>", "a", "ab", "b"], 0)
    total, _ = posterior(rows, 0)
    for h in search(rows, scorers=[TokenFusion(model, vocabulary, 0.7, 0.4)]):
        text = " ".join(vocabulary.tokens[t] for t in h.tokens)
        assert h.score == pytest.approx(total[h.tokens] + by_hand(text, model, 0.7, 0.4), **CLOSE)


def test_fused_pieces_are_the_whole():
    vocabulary = Vocabulary(LETTERS, 0)
    scorers = [WordFusion(arpa(), vocabulary), Bias(["ab"], vocabulary)]
    rows = random(30, 4, 5)
    whole = search(rows, 6, scorers=scorers, count=6)
    assert search(rows, 6, scorers=scorers, count=6, pieces=[1, 2, 17]) == whole


# -- bias --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "phrases",
    [["ab"], ["a", "aba"], ["a b", "b a", "ab"], ["a b a", "b", "ba ab"], ["a a", "a a a b"], ["aab", "ab", "b"]],
)
def test_a_bias_on_every_short_text(phrases):
    vocabulary = Vocabulary(LETTERS, 0)
    bias = Bias(phrases, vocabulary, 1.5)
    for length in range(8):
        for tokens in itertools.product((1, 2, 3), repeat=length):
            state, score = bias.start(), 0.0
            for t in tokens:
                score += bias.gains(state, np.array([t]))[0]
                state = bias.after(state, t)
            expected = covered(spelled(vocabulary, tokens), phrases, 1.5)
            assert score + bias.final(state) == pytest.approx(expected, **CLOSE), tokens


def test_a_word_under_way_counts_ahead_and_is_taken_back():
    vocabulary = Vocabulary(["<b>", " ", *"acdegilot"], 0)
    bias, scores = Bias(["cat", "dog"], vocabulary, 2.0), []
    state = bias.start()
    for letter in "cat alog":
        t = vocabulary.tokens.index(letter)
        scores.append(bias.gains(state, np.array([t]))[0])
        state = bias.after(state, t)
    assert scores == [2, 2, 2, 0, 0, 0, 0, 0]  # "cat" is complete, and stays
    state, total = bias.start(), 0.0
    for letter, now in zip("catalog", [2, 4, 6, 0, 0, 0, 0]):
        t = vocabulary.tokens.index(letter)
        total += bias.gains(state, np.array([t]))[0]
        state = bias.after(state, t)
        assert total == now  # "cat" of "catalog" is no word


def test_phrases_that_cannot_be_spelled():
    with pytest.raises(UsageError, match="spells z of 'az'") as caught:
        Bias(["az"], Vocabulary(LETTERS, 0))
    assert caught.value.code == "SC093"
    with pytest.raises(UsageError, match="no token is ba"):
        Bias(["a ba"], Vocabulary(WORDS, 0))
    assert Bias(["AB"], Vocabulary(LETTERS, 0)).depth[-1] == 4  # in the letters that there are
    assert read_phrases(["# names", "", " a b ", "ab"]) == ["a b", "ab"]
