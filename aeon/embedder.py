"""The built-in embedder: text to vector without a model, a download or a network.

Every word becomes one hashed feature for its stem and one for each character n-gram of that stem; a text is the
weighted sum of its words, scaled to length 1. Two texts are near when they share words, word forms or spellings; a
synonym is invisible to it. Layer L0: imports nothing of aeon.

The algorithm is frozen under its name. Whatever moves an output by more than rounding (a weight, a list below, the
tokeniser) is a new name, because stores keep vectors for ever and compare new ones against them.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HashEmbedder"]

DIM: Final = 384

# Weights of aeon-hash-1. Word, length and n-gram weights were varied on LoCoMo over six hash seeds: recall@10 is flat
# around them (0.47 to 0.49). Those for CJK and symbols are judgement; only the unit tests hold them.
WEIGHT_FUNCTION_WORD: Final = 0.25  # "the", "of": kept, so that a text of nothing else still has a direction
WEIGHT_COMMON_WORD: Final = 0.75  # "get", "really"
WEIGHT_CJK_CHARACTER: Final = 0.7  # below a pair's 1: the pair tells words apart, the character catches the rest
WEIGHT_KANA_CHARACTER: Final = 0.2  # a lone kana is mostly grammar
WEIGHT_KANA_PAIR: Final = 0.5  # with a kana in it: an ending, or a particle and half a word
WEIGHT_SYMBOL: Final = 0.5  # emoji, arrows, dingbats
WEIGHT_PER_LETTER: Final = 0.04  # longer words are rarer, so they say more: the idf one can have without a corpus
LETTERS_NEUTRAL: Final = 5
LETTERS_MAX: Final = 10
NGRAMS_PER_STEM: Final = 1.5  # L2 norm of all n-grams of a word, as a multiple of its stem feature
NGRAM_SIZES: Final = (2, 3, 4, 5)  # size 2 counts the word's edges; it adds 0.01 recall@10 over (3, 4, 5)

WORD_CHARS_MAX: Final = 32  # longer runs (Thai sentences, base64) are cut into pieces: bounds the work per feature
CACHED_WORDS_MAX: Final = 16_384  # about 0.6 KB each, by estimate
PENDING_FEATURES_MAX: Final = 1 << 18  # summed at once: bounds the scratch memory of a large batch

# CRC seeds: one feature space each.
SEED_STEM: Final = 1
SEED_NGRAM: Final = 2
SEED_CJK: Final = 3
SEED_SYMBOL: Final = 4
SEED_WHOLE_TEXT: Final = 5

GOLDEN_RATIO_64: Final = 0x9E3779B97F4A7C15  # Fibonacci hashing (Knuth, TAOCP 6.4): makes the linear CRC non-linear

FUNCTION_WORDS: Final = frozenset(
    """
    a an the is are was were be been being am do does did doing done have has had having of to in on at for with and
    or but if it its this that these those i you he she we they me him her us them my your his our their mine yours
    hers ours theirs as so than too very not no nor can could will would shall should may might must what when where
    who whom whose which why how there here then from by about into onto out up down off over under again just also
    only some any all both each more most other such own same dont doesnt didnt isnt wasnt arent werent wont wouldnt
    couldnt shouldnt hasnt havent hadnt aint cant lets im ive id ill youre
    """.split()
)

COMMON_WORDS: Final = frozenset(
    """
    yes yeah yep ok okay oh hey hi hello thanks thank please sure well really like get got go going gone went come
    came make made know think thought thing things say said tell told see saw look want wanted need let lot much many
    good great nice cool wow awesome amazing one two day time way back now today still even ever never always feel
    felt take took give gave sound sounds glad hope something anything everything someone anyone sorry right maybe
    actually pretty kind sort bit since because while after before during until through between though although
    however else yet already around away long new last next first every mention mentioned recently keep kept try help
    use used using people
    """.split()
)

# Forms no suffix rule reaches, and a few everyday synonyms.
BASE_FORMS: Final = dict(
    pair.split(":")
    for pair in """
    went:go gone:go goes:go got:get gotten:get took:take taken:take gave:give given:give made:make bought:buy
    thought:think saw:see seen:see said:say told:tell came:come felt:feel found:find left:leave met:meet kept:keep
    ran:run began:begin begun:begin wrote:write written:write spoke:speak spoken:speak broke:break broken:break
    chose:choose chosen:choose drove:drive driven:drive ate:eat eaten:eat fell:fall fallen:fall flew:fly flown:fly
    forgot:forget forgotten:forget grew:grow grown:grow knew:know known:know lost:lose paid:pay sold:sell sent:send
    slept:sleep spent:spend stood:stand swam:swim taught:teach threw:throw thrown:throw understood:understand
    woke:wake wore:wear worn:wear won:win held:hold heard:hear built:build brought:bring caught:catch drew:draw
    drawn:draw drank:drink drunk:drink hid:hide hidden:hide hung:hang led:lead lent:lend lit:light rode:ride
    ridden:ride rose:rise sang:sing sung:sing sat:sit shot:shoot shown:show stole:steal stolen:steal stuck:stick
    swore:swear tore:tear torn:tear children:child kids:child kid:child men:man women:woman people:person feet:foot
    teeth:tooth mice:mouse lives:life wives:wife knives:knife better:good best:good worse:bad worst:bad mom:mother
    mum:mother dad:father photo:picture photos:picture pic:picture pics:picture favourite:favorite colour:color
    """.split()
)

_CJK = "\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
# Vowel signs and other marks that \w leaves out although words are written with them.
_MARKS = "\u0900-\u0963\u0966-\u109f\u1780-\u17d3\u3099\u309a"
_LETTER = rf"(?:(?![{_CJK}_])[\w{_MARKS}])"

ASCII_WORDS: Final = re.compile(rf"[a-z0-9]{{1,{WORD_CHARS_MAX}}}(?:'[a-z0-9]{{1,3}}(?![a-z0-9]))?")
CJK_RUN_OR_SYMBOL: Final = re.compile(rf"([{_CJK}]+)|([\u2190-\u2bff\U0001f000-\U0001faff])")
ANY_WORDS: Final = re.compile(rf"{_LETTER}{{1,{WORD_CHARS_MAX}}}(?:'[^\W_]{{1,3}}(?![^\W_]))?")
CONTRACTION: Final = re.compile(r"'(?:s|re|ll|ve|d|m)$")
# Latin, Greek and Cyrillic accents; Hebrew points; Arabic vowels. Readers leave them out, so both spellings meet.
ACCENTS: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670]+"
)
KANA: Final = re.compile("[\u3041-\u30ff]")
SYMBOL: Final = re.compile("[\u2190-\u2bff\U0001f000-\U0001faff]")
CJK: Final = re.compile(f"[{_CJK}]")

# indices : int16[n] into the vector; values : float32[n], signed and weighted. Read-only once made.
Features = tuple[NDArray[np.int16], NDArray[np.float32]]


class HashEmbedder:
    """Turns texts into vectors by feature hashing; deterministic, offline, and safe to share between threads.

    name : identity of the algorithm, written into a store's manifest. The same name gives the same vectors on every
        platform and Python version, to within float32 rounding (characters that a newer Unicode adds excepted).
    dim : length of a vector, 384.

    Recall@10 of evidence on LoCoMo is 0.50, beside 0.47 for a small sentence transformer and 0.55 for BM25: word overlap
    is most of the signal in such questions. On a paraphrase that shares no word it finds nothing.
    Source: Weinberger et al. 2009 (signed feature hashing); Bojanowski et al. 2017 (n-grams within words).
    """

    name: str = "aeon-hash-1"
    dim: int = DIM

    def __init__(self) -> None:
        # Replaced whole when full. A race costs a word computed twice, never a wrong one: features are a pure
        # function of the word.
        self._cache: dict[str, Features] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed a batch.

        texts : any strings: empty, of any script, of any length, with lone surrogates.
        Returns float32[len(texts), dim], C order, owned by the caller. Every row has L2 norm 1, and depends on its own
        text alone. Raises TypeError for a single string, which would otherwise be read as a batch of characters.
        Cost: proportional to distinct words; a word seen before costs about a microsecond.
        """
        if isinstance(texts, str):
            raise TypeError("HashEmbedder takes a sequence of texts; wrap a single one: embedder([text])")
        vectors = np.empty((len(texts), DIM), dtype=np.float32)
        pending: list[list[Features]] = []
        pending_features = 0
        first = 0
        for row, text in enumerate(texts):
            features = self._text_features(text)
            pending.append(features)
            pending_features += sum([len(indices) for indices, _ in features])
            if pending_features >= PENDING_FEATURES_MAX:
                vectors[first : row + 1] = _sum_and_normalise(pending, texts[first : row + 1])
                pending, pending_features, first = [], 0, row + 1
        if pending:
            vectors[first:] = _sum_and_normalise(pending, texts[first:])
        return vectors

    def __repr__(self) -> str:
        return f"HashEmbedder(name={self.name!r}, dim={self.dim})"

    def _text_features(self, text: str) -> list[Features]:
        cache = self._cache
        features = []
        for word, count in Counter(_words(text)).items():
            found = cache.get(word)
            if found is None:
                found = _word_features(word)
                if len(cache) >= CACHED_WORDS_MAX:
                    cache = self._cache = {}
                cache[word] = found
            if count > 1:
                # Square root, not 1 + log: as good here, and IEEE 754 rounds it alike on every platform.
                found = (found[0], found[1] * np.float32(math.sqrt(count)))
            features.append(found)
        return features or [_whole_text(text)]


def _words(text: str) -> list[str]:
    """Lower-cased words; for CJK its characters and pairs of neighbours; emoji one by one. May repeat, may be empty."""
    if text.isascii():
        return ASCII_WORDS.findall(text.lower())
    # Decompose to drop accents, then compose again: kana and Hangul must stay whole.
    text = unicodedata.normalize("NFKD", text.replace("\u2019", "'")).casefold()
    text = unicodedata.normalize("NFC", ACCENTS.sub("", text))
    words: list[str] = ANY_WORDS.findall(text)
    for run, symbol in CJK_RUN_OR_SYMBOL.findall(text):
        if symbol:
            words.append(symbol)
        else:
            words.extend(run)
            words.extend([run[i : i + 2] for i in range(len(run) - 1)])
    return words


def _word_features(word: str) -> Features:
    if CJK.match(word):
        if KANA.search(word):
            weight = WEIGHT_KANA_PAIR if len(word) > 1 else WEIGHT_KANA_CHARACTER
        else:
            weight = 1.0 if len(word) > 1 else WEIGHT_CJK_CHARACTER
        return _hashed([_crc(word, SEED_CJK)], [weight])
    if SYMBOL.match(word):
        return _hashed([_crc(word, SEED_SYMBOL)], [WEIGHT_SYMBOL])
    word = CONTRACTION.sub("", word).replace("'", "")
    if word in FUNCTION_WORDS:
        return _hashed([_crc(word, SEED_STEM)], [WEIGHT_FUNCTION_WORD])
    weight = (
        WEIGHT_COMMON_WORD
        if word in COMMON_WORDS
        else 1.0 + WEIGHT_PER_LETTER * (min(len(word), LETTERS_MAX) - LETTERS_NEUTRAL)
    )
    stem = _stem(word)
    framed = f"<{stem}>"  # the frame tells a prefix or suffix from a middle
    ngrams = [framed[i : i + size] for size in NGRAM_SIZES for i in range(len(framed) - size + 1)]
    ngram_weight = weight * NGRAMS_PER_STEM / math.sqrt(len(ngrams))
    return _hashed(
        [_crc(stem, SEED_STEM), *[_crc(ngram, SEED_NGRAM) for ngram in ngrams]],
        [weight, *[ngram_weight] * len(ngrams)],
    )


def _stem(word: str) -> str:
    """A light English stemmer: plural, -ing, -ed, -ly, doubled consonant, final e and y."""
    word = BASE_FORMS.get(word, word)
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "sui":
        word = word[:-3] + "y" if len(word) > 4 and word.endswith("ies") else word[:-1]
        word = BASE_FORMS.get(word, word)
    if len(word) > 5 and word.endswith("ing"):
        word = word[:-3]
    elif (len(word) > 4 and word.endswith("ed")) or (len(word) > 5 and word.endswith("ly")):
        word = word[:-2]
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls0123456789":
        return word[:-1]
    if len(word) > 3 and word[-1] == "e":
        return word[:-1]
    if len(word) > 2 and word[-1] == "y":
        return word[:-1] + "i"
    return word


def _crc(text: str, seed: int) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), seed)


def _hashed(crcs: list[int], weights: list[float]) -> Features:
    mixed = np.array(crcs, dtype=np.uint64) * np.uint64(GOLDEN_RATIO_64)  # wraps modulo 2^64, as meant
    indices = ((mixed >> np.uint64(32)) * np.uint64(DIM)) >> np.uint64(32)  # < DIM, without the bias of a remainder
    signs = 1.0 - 2.0 * ((mixed >> np.uint64(31)) & np.uint64(1)).astype(np.float64)
    return indices.astype(np.int16), (signs * np.array(weights)).astype(np.float32)


def _whole_text(text: str) -> Features:
    """One feature for a text as it stands: for texts without a word, and for the one whose features cancel out."""
    return _hashed([_crc(text.strip(), SEED_WHOLE_TEXT)], [1.0])


def _sum_and_normalise(rows: list[list[Features]], texts: Sequence[str]) -> NDArray[np.float64]:
    """Sum each row's features and scale it to length 1; float64[len(rows), DIM]."""
    flat = [features for row in rows for features in row]
    lengths = [sum([len(indices) for indices, _ in row]) for row in rows]
    indices = np.concatenate([indices for indices, _ in flat]).astype(np.intp)
    indices += np.repeat(np.arange(len(rows), dtype=np.intp) * DIM, lengths)
    values = np.concatenate([values for _, values in flat])
    # bincount adds in order and in float64, so a row is the same alone and in any batch.
    sums = np.bincount(indices, weights=values, minlength=len(rows) * DIM).reshape(len(rows), DIM)
    norms = np.sqrt((sums * sums).sum(axis=1))
    for row in np.flatnonzero(norms < 1e-6):
        index, value = _whole_text(texts[int(row)])
        sums[row] = 0.0
        sums[row, index] = value
        norms[row] = 1.0
    normalised: NDArray[np.float64] = sums / norms[:, None]
    return normalised
