"""The tokeniser of the example as the package `tokenizers` has it: the same tokens for the same text.

The vocabulary and the merges are those of SmolLM2-135M-Instruct, read by the package `gguf`. For other pre-tokenisers
and more special tokens, files without tensors are written with the same vocabulary. Each text is also decoded again by
the program `tokens`, which ends with an error when other bytes come back.
"""

import ctypes
import ctypes.util
import functools
import json
import os
import pathlib
import random
import subprocess
import unicodedata

import gguf
import pytest
import tokenizers
from tokenizers import AddedToken, Regex, models, pre_tokenizers

from oracle import BINARIES, ROOT

BOUND_SECONDS = 110
SCALE = int(os.environ.get("DISCO_TEST_SCALE", "1"))
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"

# What the makers of the models published, where it is more than the two that the package has built in.
PUBLISHED = {
    "llama-bpe": CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
PRE_TOKENISERS = ["smollm", "gpt-2", *PUBLISHED]


# ---- Both tokenisers ----


def pre_tokeniser(name):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name not in PUBLISHED)
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name in PUBLISHED:
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PUBLISHED[name]), "isolated"), byte_level])
    return byte_level


class Vocabulary:
    """Of a GGUF file."""

    def __init__(self, path):
        fields = gguf.GGUFReader(path).fields
        self.tokens = fields["tokenizer.ggml.tokens"].contents()
        self.types = fields["tokenizer.ggml.token_type"].contents()
        self.merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
        self.special = [token for token, kind in zip(self.tokens, self.types) if kind in (3, 4)]
        known = set(self.tokens)
        alphabet = [chr(b) for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE]
        # Bytes as characters: what is not printable in Latin-1 comes from U+0100 on.
        shifted = iter(range(256, 512))
        letters = [chr(b) if chr(b) in alphabet else chr(next(shifted)) for b in range(256)]
        self.missing = {byte for byte, letter in enumerate(letters) if letter not in known}

    def has(self, text):
        """All bytes of it, that is; a token that is missing is an error here and left out by `tokenizers`."""
        return self.missing.isdisjoint(text.encode() if isinstance(text, str) else text)

    @functools.cache
    def oracle(self, pre, with_special):
        ids = {token: id for id, token in enumerate(self.tokens)}
        made = tokenizers.Tokenizer(models.BPE(ids, self.merges, ignore_merges=pre == "llama-bpe"))
        made.pre_tokenizer = pre_tokeniser(pre)
        if with_special:
            made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self.special])
        return made

    def write(self, path, pre, more_special=()):
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list([*self.tokens, *more_special])
        writer.add_token_types([*self.types, *([4] * len(more_special))])
        writer.add_token_merges([" ".join(merge) for merge in self.merges])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path


def encode(path, texts, with_special):
    """Lists of tokens as the example makes them; of texts that it cannot encode, the error."""
    program = BINARIES / "tests" / "llama" / "tokens"
    assert program.exists(), f"build first: {program} is missing"
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    ended = subprocess.run(
        [program, path, *(["--special"] if with_special else [])],
        input=b"".join(b"%d:%s," % (len(text), text) for text in raw),
        capture_output=True,
        timeout=BOUND_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    lines = ended.stdout.decode().splitlines()
    assert len(lines) == len(texts)
    return [json.loads(line) for line in lines]


def compare(path, vocabulary, texts, pre="smollm", with_special=True):
    """Texts whose bytes are not all in the vocabulary must be errors; how many were compared."""
    ours = encode(path, texts, with_special)
    theirs = vocabulary.oracle(pre, with_special).encode_batch(texts, add_special_tokens=False)
    compared = 0
    for text, mine, expected in zip(texts, ours, theirs, strict=True):
        if not vocabulary.has(text):
            assert "has no token for the byte 0x" in mine["error"], repr(text)
            continue
        compared += 1
        if mine != expected.ids:
            at = next((i for i, (a, b) in enumerate(zip(mine, expected.ids)) if a != b), min(len(mine), len(expected)))
            pytest.fail(f"token {at}: {mine[at:][:9]}, expected {expected.ids[at:][:9]} in {text[:300]!r}")
    return compared


@pytest.fixture(scope="session")
def vocabulary(real):
    return Vocabulary(real)


@pytest.fixture(scope="session")
def model(real, vocabulary, tmp_path_factory):
    """model(pre): the path of a file with this pre-tokeniser."""
    folder = tmp_path_factory.mktemp("tokenisers")
    written = {"smollm": real}

    def path_of(pre):
        if pre not in written:
            written[pre] = vocabulary.write(folder / f"{pre}.gguf", pre)
        return written[pre]

    return path_of


# ---- Characters that both take for the same ----


def runs_by_pcre2(pattern, text):
    """The characters of `text` that PCRE2, the library that the example is linked with, matches."""
    library = ctypes.CDLL(ctypes.util.find_library("pcre2-8"))
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    for function in ("pcre2_compile_8", "pcre2_match_data_create_8", "pcre2_get_ovector_pointer_8"):
        getattr(library, function).restype = pointer
    library.pcre2_get_ovector_pointer_8.argtypes = [pointer]
    library.pcre2_match_8.argtypes = [pointer, ctypes.c_char_p, size, size, ctypes.c_uint32, pointer, pointer]
    utf, ucp, no_utf_check = 0x00080000, 0x00020000, 0x40000000
    code, offset = ctypes.c_int(), size()
    compiled = library.pcre2_compile_8(
        pattern, size(len(pattern)), ctypes.c_uint32(utf | ucp), ctypes.byref(code), ctypes.byref(offset), None
    )
    match = library.pcre2_match_data_create_8(ctypes.c_uint32(1), None)
    subject, at, found = text.encode(), 0, set()
    while library.pcre2_match_8(compiled, subject, len(subject), at, no_utf_check, match, None) > 0:
        span = ctypes.cast(library.pcre2_get_ovector_pointer_8(match), ctypes.POINTER(size))
        found.update(subject[span[0] : span[1]].decode())
        at = span[1]
    return found


def left_by(splitter, text):
    """What the pre-tokeniser leaves of it; bit by bit, since it is slow with long texts."""
    pieces = (text[i : i + 20000] for i in range(0, len(text), 20000))
    return {character for piece in pieces for word, _ in splitter.pre_tokenize_str(piece) for character in word}


@pytest.fixture(scope="session")
def different():
    """Characters that PCRE2 and `tokenizers` take for different things: they have Unicode 14 (PCRE2 10.42), 16 (regular
    expressions of `tokenizers`) and 17 (its Digits), so letters and digits that are new since are none for PCRE2."""
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    found = set()
    for pattern in (r"\p{L}", r"\p{N}"):
        theirs = set(everything) - left_by(pre_tokenizers.Split(Regex(pattern), "removed"), everything)
        found |= theirs ^ runs_by_pcre2(f"{pattern}+".encode(), everything)
    # No pre-tokeniser removes what is a digit for Digits: between controls, each is alone.
    digits = set()
    for i in range(0, len(everything), 20000):
        words = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str("\1".join(everything[i : i + 20000]))
        digits |= {word for word, _ in words if len(word) == 1 and word != "\1"}
    found |= digits ^ runs_by_pcre2(rb"\p{N}+", everything)
    assert len(digits) > 1000 and len(found) < 20000
    # Nothing that Python knows as well, which is as old as PCRE2 in Debian 12.
    if unicodedata.unidata_version == "14.0.0":
        assert {unicodedata.category(character) for character in found} <= {"Cn"}
    return found


def without(different, texts):
    return [text for text in texts if different.isdisjoint(text)]


# ---- Texts ----

SAMPLES = [
    "",
    " ",
    "Hello, world! It's 10:45, isn't it? I'd say they'll've gone; we're done. 'S 'T 'RE 'VE 'M 'LL 'D",
    "What is the capital of France?",
    "d\u00e9j\u00e0 vu, na\u00efve, Stra\u00dfe, \u0130stanbul, \u01c5, \ufb01n, 's '\u017f '\u017fx \u212a",
    "Привет, мир! Как дела? Ёлка",
    "Γειά σου Κόσμε, ἀρχή",
    "שלום עולם, שָׁלוֹם",
    "مرحبا بالعالم ١٢٣٤ ۱۲۳",
    "नमस्ते दुनिया, क्षत्रिय १२३",
    "สวัสดีชาวโลก ๑๒๓",
    "你好，世界！一二三",
    "こんにちは世界、カタカナ ｶﾀｶﾅ",
    "안녕하세요 세계 \u1112\u1161\u11ab",
    "ታዲያስ ዓለም ፩፪፫",
    "გამარჯობა მსოფლიო Ა",
    "Բարեւ աշխարհ",
    "བཀྲ་ཤིས་བདེ་ལེགས།",
    "ꦲꦏ꧀ꦱꦫ, 𐎠𐎡, 𒀀𒐕, 𓂀, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟏𝟐𝟑",
    "½ ⅓ Ⅻ ⑳ ² ₃ 〇 ㊿ 1½2",
    "0 00 000 0000 1234567890 3.14159 1e-9 0x1F 1,000,000 v2.0.1-rc3",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 1️⃣ ☺️ 🫠 🧑🏿‍🚀a🧑🏿‍🚀 1",
    "e\u0301 a\u0300\u0316\u0334 Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d o\u0308 \u0301 \u0301\u0301x 9\u20e3",
    "  leading, trailing  ",
    "a  b   c    d     e\tf\t\tg \t h\n\ni\r\nj\r\n\r\nk \n l\n \nm   \n\n\n   n",
    "\t\t\tif (x) {\r\n\t\t\t\treturn  ;\r\n\t\t\t}\r\n",
    "\u00a0a\u00a0\u00a0b\u1680c\u2000\u2001d\u2007 \u2007e\u2028f\u2029g\u202fh\u205fi\u3000j\u0085k\u0085",
    "\u180ea \u180e \u180e\u180eb\u200bc\u200b\u200b d\ufeffe\u2060f \u00ad g\u200e\u200f",
    "\x00\x01\x02\x03\x05\x07\x08\x0b\x0c\x0e\x1b[31mred\x1b[0m\x7f \x7f\x80\x9f",
    "x\v\vy\f\fz\x1c \x1e\x1fw",
    "\ufffd\ufffe\uffff \U0001fffe \U000e0001 \U000f0000 \U0010ffff",
    "https://example.org/a?b=c&d=%20#e <a href=\"x\">y</a> {\"k\": [1, null]}",
    "!!!!!! ?????? ...... ------ ====== ****** ______ ###### //////",
    "'''''' '' ' 's's's ''s 'tt 'rere",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|><|im_start|> <|im_end|><|endoftext|>1<|endoftext|>",
    "a<|im_end|>b <|im_end|> c<|im_end| ><|im_end|<|im_end|>|><|IM_END|>",
    "<repo_name><reponame><file_sep><filename><gh_stars><jupyter_<jupyter_code><jupyter_code",
]

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz",
    "ABCdef'sStTrReEvVmMlLdD ",
    "0123456789 .,a",
    " \t\n\r\v\f\u0085\u00a0\u2003\u3000\u180e\u200bx",
    " \r\n",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ",
    "aé\u0301ßñçøåÅ ",
    "привет ёЁ",
    "你好世界，。 ",
    "👩\u200d👧🏽\ufe0f🇩🇪 a1",
    "½²⅓Ⅻ٣३ 1a",
    "<|>im_startend",
]


def random_texts(seed, count):
    """Of characters of one alphabet, of several, and of all of Unicode."""
    source = random.Random(seed)
    planes = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000)]
    for _ in range(count):
        length = int(source.paretovariate(0.8)) % 400
        kind = source.random()
        if kind < 0.4:
            yield "".join(source.choices(source.choice(ALPHABETS), k=length))
        elif kind < 0.7:
            mixed = "".join(source.sample(ALPHABETS, 3)) + " " * source.randrange(20)
            yield "".join(source.choices(mixed, k=length))
        elif kind < 0.9:
            some = planes[: source.randint(1, 6)]
            yield "".join(chr(source.randrange(*source.choice(some))) for _ in range(length))
        else:
            yield "".join(source.choice(SAMPLES)[source.randrange(5) :][: source.randrange(1, 40)] for _ in range(9))


def corpus(budget=2 << 20):
    """Files of this repository and of Python's library, about so many bytes of each."""
    folders = [*(ROOT / name for name in ("src", "include", "examples", "docs", "scripts", "tests", "cmake", "tools"))]
    library = sorted(pathlib.Path(os.__file__).parent.glob("*/*.py")) + sorted(
        pathlib.Path(os.__file__).parent.glob("*.py")
    )
    for files in (sorted(file for folder in folders for file in folder.rglob("*")), library):
        left = budget // SCALE
        for file in files:
            if left > 0 and file.is_file() and file.stat().st_size < 200000:
                left -= file.stat().st_size
                yield file.read_bytes()


# ---- Tests ----


@pytest.mark.parametrize("with_special", [True, False])
@pytest.mark.parametrize("pre", PRE_TOKENISERS)
def test_samples(model, vocabulary, pre, with_special):
    joined = ["".join(SAMPLES), "\n".join(SAMPLES), "\r\n\r\n".join(reversed(SAMPLES)), " ".join(SAMPLES) * 20]
    texts = [*SAMPLES, *(text for text in joined if vocabulary.has(text))]
    assert compare(model(pre), vocabulary, texts, pre, with_special) >= len(SAMPLES)


@pytest.mark.parametrize("pre", PRE_TOKENISERS)
def test_files(model, vocabulary, different, pre):
    texts = []
    for raw in corpus(2 << 20 if pre == "smollm" else 1 << 19):
        try:
            texts.append(raw.decode())
        except UnicodeDecodeError:
            continue
    assert compare(model(pre), vocabulary, without(different, texts), pre) > 50 // SCALE


@pytest.mark.parametrize("pre", PRE_TOKENISERS)
def test_every_character(model, vocabulary, different, pre):
    """Beside letters, digits, white space, punctuation and itself. Of the big blocks of one kind, and for other models
    of what is rare, a few."""
    big = [(0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x17000, 0x18AFF), (0x20000, 0x10FFFF)]
    rare = 0x3400 if pre != "smollm" else 0x110000

    def step(character):
        return 997 if any(low < character < high for low, high in big) else 9 if character > rare else 1

    everything = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c % (step(c) * SCALE) == 0]
    texts = [f"a{c} {c}{c}a1{c}1's{c}'s  {c}\n{c}\n!{c}! {c}" for c in map(chr, everything)]
    assert compare(model(pre), vocabulary, without(different, texts), pre) > (60000 if pre == "smollm" else 15000) // SCALE


@pytest.mark.parametrize("pre", PRE_TOKENISERS)
def test_random_texts(model, vocabulary, different, pre):
    texts = without(different, random_texts(f"texts of {pre}", 8000 // SCALE))
    assert compare(model(pre), vocabulary, texts, pre) > 4000 // SCALE


@pytest.mark.parametrize("unit", ["a", "e ", "ab", "the", " ", "\n", " \n", "\t ", "\r\n", "!", "'", "é", "\u0301", "字"])
def test_long_words(model, vocabulary, unit):
    """Hundreds of thousands of them; a heap and a search for the first pair must agree where they meet, too."""
    lengths = [*range(1, 80), 127, 128, 129, 1000, 4097]
    texts = [f"{unit * length}{end}" for length in lengths for end in ("", "x", "1")]
    texts += [unit * (300000 // SCALE), "x" + unit * (100000 // SCALE) + "y"]
    for pre in ("smollm", "llama-bpe"):
        assert compare(model(pre), vocabulary, texts, pre) == len(texts)


def test_long_random_words(real, vocabulary):
    source = random.Random("words")
    letters = "eeeeettttaaooiinnsshhrrdlu"
    lengths = [*range(20, 60), *[200] * 50, 5000, 200000 // SCALE]
    texts = ["".join(source.choices(letters, k=length)) for length in lengths]
    assert compare(real, vocabulary, texts) == len(texts)


def test_many_special_tokens(real, vocabulary, tmp_path):
    """Thousands, most of which begin like others: the first place counts, there the longest."""
    source = random.Random("special")
    special = {"".join(source.choices("<|ab é", k=source.randint(2, 7))) for _ in range(3000)}
    special |= {"<|reserved_%d|>" % i for i in range(500)} | {"\n\n\n\n", "🏳️‍🌈", "import", "<" * 30}
    special = sorted(special - set(vocabulary.tokens))
    source.shuffle(special)
    path = vocabulary.write(tmp_path / "special.gguf", "smollm", special)
    texts = ["".join(source.choices("<|ab é", k=source.randrange(200))) for _ in range(2000 // SCALE)]
    texts += ["".join(source.choices([*special[:50], "x", " ", "<|im_end|>"], k=50)) for _ in range(200)]
    texts += ["<|reserved_1|><|reserved_17|><|reserved_499|><|reserved_500|><|reserved_" * 100, "<" * 100, *SAMPLES]
    more = Vocabulary(path)
    assert len(more.special) == len(special) + 17
    assert compare(path, more, texts) > 1000 // SCALE
    assert compare(path, more, texts, with_special=False) > 1000 // SCALE


@pytest.mark.parametrize("with_special", [True, False])
def test_bytes_come_back(real, vocabulary, with_special):
    """Which `tokens` checks: of files, whatever is in them, and of random bytes, cut and patched UTF-8."""
    source = random.Random("bytes")
    has = bytes(sorted(set(range(256)) - vocabulary.missing))
    texts = [*corpus(), bytes(has), *(bytes([byte]) for byte in has)]
    for _ in range(3000 // SCALE):
        texts.append(bytes(source.choices(has, k=source.randrange(100))))
        cut = "".join(source.choices("aé字👩 1\n", k=20)).encode()
        texts.append(cut[source.randrange(4) : source.randrange(4, len(cut))])
        patched = bytearray(source.choice(SAMPLES).encode())
        for _ in range(min(len(patched), 5)):
            patched[source.randrange(len(patched))] = source.choice(has)
        texts.append(bytes(patched))
    for text, tokens in zip(texts, encode(real, texts, with_special), strict=True):
        assert isinstance(tokens, list) == vocabulary.has(text), text[:100]


def test_bytes_that_are_not_utf8(real, vocabulary):
    """Each is its token, and what is around it the tokens that it is for itself."""
    has = sorted(set(range(256)) - vocabulary.missing)
    of_byte = dict(zip(has, (tokens[0] for tokens in encode(real, [bytes([byte]) for byte in has], True))))
    broken = [b"\x80", b"\xbf\xbf", b"\xe5\xad", b"\xf0\x9f\x91", b"\xed\xa0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80"]
    parts = ["The end", "<|im_end|>", " is\n\n", "字", "", " 12 ", " "]
    for bad in broken:
        texts = [first.encode() + bad + second.encode() for first in parts for second in parts]
        around = encode(real, parts, True)
        expected = [first + [of_byte[byte] for byte in bad] + second for first in around for second in around]
        assert encode(real, texts, True) == expected


def test_missing_bytes(real, vocabulary):
    """21 bytes have no token in this vocabulary: the sentence says which, and where it is."""
    assert len(vocabulary.missing) == 21
    before = [b"", "字 x".encode(), b"<|im_end|>", b" \n\n"]
    texts = [start + bytes([byte]) + b"y" for byte in sorted(vocabulary.missing) for start in before]
    for text, told in zip(texts, encode(real, texts, True), strict=True):
        byte, at = text[-2], len(text) - 2
        assert f"byte 0x{byte:02x}, which is at byte {at} of the text" in told["error"]
