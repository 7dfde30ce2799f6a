"""Transducer search: against the sum over all alignments, in pieces, greedy beside a beam of one, by any predictor."""

import itertools
import math

import numpy as np
import pytest
from speechc.compiler.decode.bias import Bias
from speechc.compiler.decode.prefix import log_softmax
from speechc.compiler.decode.transducer import Beam, Greedy, Rules
from speechc.compiler.decode.vocabulary import Vocabulary
from speechc.ir.errors import UsageError

ALL = 10**6  # a beam that holds everything
# Sums of the same numbers in another order, float64.
CLOSE = {"rel": 1e-11, "abs": 1e-11}
SIZE, CLASSES = 5, 3


class Random:
    """Random networks in float64; calls are counted. The joiner is W tanh(encoded + predicted)."""

    def __init__(self, seed=0, scale=1.5, classes=CLASSES):
        rng = np.random.default_rng(seed)
        self.draw = lambda *shape: scale * rng.standard_normal(shape)
        self.embed, self.out = self.draw(classes, SIZE), self.draw(SIZE, classes)
        self.calls = {"predict": [], "join": []}

    def join(self, encoded, predicted):
        self.calls["join"].append(len(predicted))
        return np.tanh(encoded + predicted) @ self.out


class Lstm(Random):
    """An LSTM predictor whose states have their hypotheses on unlike axes."""

    axes = {"h": 1, "c": 0}

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.weights = self.draw(2 * SIZE, 4 * SIZE)

    def begin(self):
        return {"h": np.zeros((1, 1, SIZE)), "c": np.zeros((1, SIZE))}

    def predict(self, tokens, states):
        self.calls["predict"].append(len(tokens))
        gates = np.concatenate([self.embed[tokens], states["h"][0]], 1) @ self.weights
        i, f, o, g = np.split(gates, 4, 1)
        sigmoid = lambda x: 1 / (1 + np.exp(-x))
        c = sigmoid(f) * states["c"] + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, {"h": h[None], "c": c}


class Stateless(Random):
    """An embedding and a convolution over the last two tokens, the first of them blanks."""

    axes = {"last": 0}

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.weights = self.draw(2, SIZE, SIZE)

    def begin(self):
        return {"last": np.zeros((1, 1), np.int64)}

    def predict(self, tokens, states):
        self.calls["predict"].append(len(tokens))
        both = np.concatenate([states["last"], tokens[:, None]], 1)
        out = np.tanh(sum(self.embed[both[:, i]] @ self.weights[i] for i in range(2)))
        return out, {"last": both[:, 1:]}


KINDS = [Lstm, Stateless]


def frames_of(count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, SIZE))


def alignments(nets, frames, rules):
    """(tokens, log-probability, frame of each token) of every alignment."""

    def predicted(tokens):
        out, states = nets.predict(np.array([rules.blank]), nets.begin())
        for t in tokens:
            out, states = nets.predict(np.array([t]), states)
        return out

    def walk(tokens, when, score, t, here):
        if t == len(frames):
            yield tokens, score, when
            return
        row = log_softmax(nets.join(frames[t], predicted(tokens)))[0]
        yield from walk(tokens, when, score + row[rules.blank], t + 1, 0)
        if rules.moves or here < rules.most:
            for c in set(range(CLASSES)) - {rules.blank}:
                more = ((*tokens, c), (*when, t), score + row[c])
                yield from walk(*more, t + 1, 0) if rules.moves else walk(*more, t, here + 1)

    yield from walk((), (), 0.0, 0, 0)


def posterior(nets, frames, rules):
    """{tokens: (log-probability, frames of its likeliest alignment)}."""
    found = {}
    for tokens, score, when in alignments(nets, frames, rules):
        total, best, at = found.get(tokens, (-np.inf, -np.inf, ()))
        found[tokens] = (np.logaddexp(total, score), max(best, score), when if score > best else at)
    return {tokens: (total, at) for tokens, (total, _, at) in found.items()}


def search(made, frames, pieces=(), count=ALL):
    for piece in np.split(frames, pieces):
        made.push(piece)
    return made.best(count, final=True)


RULES = {
    "frames": (4, Rules(most=1)),
    "rounds": (3, Rules(most=2)),
    "last": (2, Rules(blank=2, most=3)),
    "moves": (5, Rules(moves=True)),
    "moves, last": (4, Rules(blank=2, moves=True)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", RULES)
def test_every_labelling_has_its_exact_probability(kind, case):
    count, rules = RULES[case]
    nets, frames = kind(), frames_of(count)
    expected = posterior(nets, frames, rules)
    found = search(Beam(nets, ALL, rules), frames)
    assert {h.tokens for h in found} == set(expected) and len(expected) > 10
    for h in found:
        assert h.acoustic == pytest.approx(expected[h.tokens][0], **CLOSE) and h.score == h.acoustic
        assert h.frames == expected[h.tokens][1]
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    if rules.moves:  # here every alignment ends with the frames, so they are all there is
        assert sum(math.exp(h.acoustic) for h in found) == pytest.approx(1, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moves", [False, True])
def test_what_comes_in_pieces_is_the_whole(kind, moves):
    nets, frames, rules = kind(3), frames_of(25), Rules(most=3, moves=moves)
    for make in (lambda: Beam(nets, 4, rules), lambda: Greedy(nets, rules)):
        whole = search(make(), frames)
        assert len(whole[0].tokens) > 1
        for pieces in ([1], [0, 9, 9, 20, 25], range(1, 25)):
            assert search(make(), frames, pieces) == whole


def test_reset_starts_again():
    nets, frames = Lstm(3), frames_of(9)
    for made in (Beam(nets, 3), Greedy(nets)):
        first = search(made, frames)
        made.reset()
        assert search(made, frames) == first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_where_a_token_moves_a_beam_of_one_is_greedy(kind, seed):
    nets, frames, rules = kind(seed), frames_of(20, seed), Rules(moves=True)
    (a,), (b,) = search(Beam(nets, 1, rules), frames), search(Greedy(nets, rules), frames)
    assert (a.tokens, a.frames) == (b.tokens, b.frames) and a.score == pytest.approx(b.score, **CLOSE)


class Clear(Lstm):
    """The likeliest class has the probability 0.85 at every call; it is the blank at about three in five."""

    def join(self, encoded, predicted):
        made = np.full((len(predicted), CLASSES), 0.15 / (CLASSES - 1))
        drawn = (1000 * np.abs(predicted @ encoded)).astype(int) % 5
        made[range(len(made)), np.maximum(drawn - 2, 0)] = 0.85
        return np.log(made)


def test_a_beam_of_one_is_greedy_where_calls_are_clear():
    rules, compared = Rules(most=3), 0  # 0.85^4 > 0.15
    for seed in range(40):
        nets, frames = Clear(seed), frames_of(8, seed)
        greedy = search(Greedy(nets, rules), frames)[0]
        if max(np.bincount(greedy.frames, minlength=1)) < rules.most:  # greedy never stopped at the limit
            assert search(Beam(nets, 1, rules), frames)[0].tokens == greedy.tokens
            compared += bool(greedy.tokens)
    assert compared > 5


def test_greedy_takes_no_more_tokens_a_frame_than_it_may():
    nets = Lstm()
    nets.join = lambda encoded, predicted: np.array([[-9.0, 0.0, 1.0]])  # never a blank
    for most in (1, 2, 4):
        assert search(Greedy(nets, Rules(most=most)), frames_of(2))[0].frames == (0,) * most + (1,) * most
    assert search(Greedy(nets, Rules(moves=True)), frames_of(2))[0].frames == (0, 1)


def test_a_wider_beam_finds_no_worse():
    nets, frames = Lstm(5, classes=8), frames_of(15)
    scores = [search(Beam(nets, n, Rules(most=2)), frames)[0].score for n in (1, 2, 4, 16, 64)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(scores)) and scores[-1] > scores[0]


def test_hypotheses_share_calls():
    nets, frames = Lstm(4), frames_of(10)
    search(Beam(nets, 4, Rules(moves=True)), frames)
    assert len(nets.calls["join"]) == 10 and max(nets.calls["join"]) == 4
    assert len(nets.calls["predict"]) == 1 + 10 and max(nets.calls["predict"]) == 4


def test_a_bias_leads_to_its_words():
    vocabulary = Vocabulary(["<blank>", "a", "b"], 0)
    nets, frames, rules = Lstm(2), frames_of(3), Rules(most=2)
    bias = Bias(["b a"], vocabulary, 2.0)
    expected = posterior(nets, frames, rules)

    def worth(tokens):
        inside = {i + j for i in range(len(tokens)) for j in (0, 1) if tokens[i : i + 2] == (2, 1)}
        return 2.0 * len(inside)

    found = search(Beam(nets, ALL, rules, [bias]), frames)
    for h in found:
        assert h.score == pytest.approx(expected[h.tokens][0] + worth(h.tokens), **CLOSE)
    assert (2, 1) in [h.tokens[i : i + 2] for h in found[:1] for i in range(len(h.tokens))]


def test_times_in_ms():
    h = search(Greedy(Lstm(3)), frames_of(25))[0]
    assert h.times(40) == tuple(40.0 * f for f in h.frames) and len(h.frames) == len(h.tokens)


def test_numbers_that_are_none():
    nets = Lstm()
    for made in (Beam(nets, 2), Greedy(nets)):
        with pytest.raises(UsageError, match="NaN") as caught:
            made.push(np.full((1, SIZE), np.nan))
        assert caught.value.code == "SC091"
    for wrong in (lambda: Beam(nets, 0), lambda: Rules(most=0)):
        with pytest.raises(UsageError) as caught:
            wrong()
        assert caught.value.code == "SC090"
