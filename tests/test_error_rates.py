"""Error rates and how sure they are: counts by hand, texts normalised, the bootstrap against what it approximates."""

import itertools

import jiwer
import numpy as np
import pytest
from speechc.compiler.evaluate.bootstrap import interval, paired, resampled_rates
from speechc.compiler.evaluate.counts import Counts, count, count_words, marked, total
from speechc.compiler.evaluate.normalise import normaliser, plain
from speechc.ir.errors import UsageError

# -- counts ----------------------------------------------------------------------------------------------------------
BY_HAND = [  # said, heard, (substitutions, deletions, insertions) of words
    ("the cat sat on the mat", "the cat sat on the mat", (0, 0, 0)),
    ("the cat sat on the mat", "the hat sat the mat now", (1, 1, 1)),
    ("a b c", "", (0, 3, 0)),
    ("", "a b", (0, 0, 2)),
    ("a b c d", "b c d", (0, 1, 0)),
    ("one two", "three one two four", (0, 0, 2)),
    ("a b", "c d", (2, 0, 0)),
]


@pytest.mark.parametrize(("said", "heard", "errors"), BY_HAND)
def test_words_counted_by_hand(said, heard, errors):
    found = count_words(said, heard)
    assert (found.substitutions, found.deletions, found.insertions) == errors
    assert found.errors == sum(errors) and found.length == len(said.split())
    assert found.rate == (sum(errors) / len(said.split()) if said else None)


def test_characters_counted_by_hand():
    assert count("kitten", "sitting") == Counts(6, 2, 0, 1)
    assert count("ab cd", "abcd") == Counts(5, 0, 1, 0)  # a space is a character


def test_counts_are_those_of_jiwer():
    random = np.random.default_rng(0)
    texts = lambda: [" ".join(random.choice(list("abcde"), random.integers(1, 12))) for _ in range(50)]
    said, heard = texts(), texts()
    words = total(count_words(s, h) for s, h in zip(said, heard))
    letters = total(count(s, h) for s, h in zip(said, heard))
    for ours, theirs in ((words, jiwer.process_words(said, heard)), (letters, jiwer.process_characters(said, heard))):
        assert (ours.substitutions, ours.deletions, ours.insertions) == (
            theirs.substitutions,
            theirs.deletions,
            theirs.insertions,
        )
    assert words.rate == pytest.approx(jiwer.wer(said, heard)) and letters.rate == pytest.approx(jiwer.cer(said, heard))


def test_marks():
    assert marked("the cat sat on the mat", "the hat sat the mat now") == "the [hat] sat [-on] the mat [+now]"
    assert marked("a", "a") == "a" and marked("", "b") == "[+b]" and marked("a b", "") == "[-a] [-b]"


# -- normalisation ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello,   WORLD!  ", "hello world"),
        ("don\u2019t 'quote' rock 'n' roll", "don't quote rock n roll"),
        ("well-known: Stra\u00dfe \u2014 \u00c9t\u00e9", "well known strasse \u00e9t\u00e9"),
        ("5 % of $3", "5 % of $3"),
        ("\uff21\uff22", "ab"),
        ("...", ""),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", "\u0928\u092e\u0938\u094d\u0924\u0947"),
    ],
)
def test_plain_text(text, expected):
    assert plain(text) == expected


SENTENCES = [
    "Mr. Smith paid twenty-five dollars and 50 cents, didn't he?",
    "The colour of the neighbour's car [noise] was grey (I think).",
    "Um, one hundred and twenty three point five percent of 1,000 people...",
    "He won't go; they've been there since nineteen eighty four, the 21st of May.",
    "Please enter your agent number followed by the pound key.",
    "",
]


@pytest.mark.slow
def test_whispers_normaliser_is_that_of_transformers():
    module = pytest.importorskip("transformers.models.whisper.english_normalizer")
    from whisper_normalizer.english import EnglishSpellingNormalizer

    theirs = module.EnglishTextNormalizer(EnglishSpellingNormalizer().mapping)
    ours = normaliser("whisper")
    for text in SENTENCES:
        assert ours(text).split() == theirs(text).split()
    assert ours("It's twenty-five grey colours") == "it is 25 gray colors"


def test_no_normalisation_and_unknown_ones():
    assert normaliser("none")(" A,  b ") == "A, b"
    with pytest.raises(UsageError, match="one of plain, whisper, none") as error:
        normaliser("french")
    assert error.value.code == "SC017"


# -- statistics ------------------------------------------------------------------------------------------------------
def test_resamples_are_the_direct_computation():
    """The same draws, utterance by utterance, as the definition says."""
    errors, lengths = [[1, 0, 2, 4, 0], [0, 0, 3, 1, 1]], [5, 3, 8, 6, 2]
    rates = resampled_rates(errors, lengths, 300, seed=7)
    draws = np.random.default_rng(7).multinomial(5, [0.2] * 5, size=300)
    for f in range(2):
        direct = []
        for times in draws:
            drawn = [i for i, n in enumerate(times) for _ in range(n)]
            assert len(drawn) == 5
            direct.append(sum(errors[f][i] for i in drawn) / sum(lengths[i] for i in drawn))
        np.testing.assert_allclose(rates[f], direct, rtol=1e-12)
        ordered = sorted(direct)
        low, high = interval(rates[f], 0.9)
        assert ordered[14] <= low <= ordered[15] and ordered[284] <= high <= ordered[285]


def test_the_bootstrap_has_the_distribution_of_all_draws():
    """All 4^4 draws of four utterances, against 20000: shares differ by less than four standard errors (0.014)."""
    errors, lengths = [0, 1, 2, 5], [4, 3, 6, 7]
    exact = np.array(
        [sum(errors[i] for i in d) / sum(lengths[i] for i in d) for d in itertools.product(range(4), repeat=4)]
    )
    (rates,) = resampled_rates([errors], lengths, 20000)
    for limit in np.unique(np.round(exact, 9)):
        assert abs((rates <= limit + 1e-9).mean() - (exact <= limit + 1e-9).mean()) < 0.014


def test_many_utterances_are_drawn_in_parts(monkeypatch):
    errors, lengths = [[1, 0, 2]], [2, 3, 4]
    whole = resampled_rates(errors, lengths, 50, seed=1)
    monkeypatch.setattr("speechc.compiler.evaluate.bootstrap.AT_ONCE", 21)
    np.testing.assert_array_equal(resampled_rates(errors, lengths, 50, seed=1), whole)


@pytest.mark.slow
def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """100 sets of 200 utterances with 10 % errors: of 95 % intervals, fewer than 87 would be chance below 1 in 1000."""
    random, covered = np.random.default_rng(0), 0
    for k in range(100):
        low, high = interval(resampled_rates([random.binomial(5, 0.1, 200)], [5] * 200, 400, seed=k)[0])
        covered += low <= 0.1 <= high
    assert 87 <= covered <= 100


def test_paired_differences():
    """One error more in each of ten utterances of ten words: ten points, whatever is drawn."""
    first, other = resampled_rates([[1] * 10, [2] * 10], [10] * 10, 500)
    test = paired(0.1, first, other)
    assert test.interval == pytest.approx((0.1, 0.1)) and (test.better, test.worse) == (0.0, 1.0)
    assert test.p == pytest.approx(2 / 501)
    same = paired(0.0, first, first)
    assert (same.better, same.worse, same.p) == (0.0, 0.0, 1.0)
    # paired draws: what is common to both files does not widen the interval of the difference
    random = np.random.default_rng(0)
    hard = random.integers(0, 9, 60)
    a, b = resampled_rates([hard, hard + (np.arange(60) % 6 == 0)], [10] * 60, 1000)
    width = lambda pair: pair[1] - pair[0]
    assert width(paired(0, a, b).interval) < 0.3 * width(interval(a))
