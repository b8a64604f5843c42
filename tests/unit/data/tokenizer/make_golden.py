#!/usr/bin/python3
"""Makes golden.jsonl: texts and the ids that the original encoders give them.

Needs python3-sentencepiece (Debian), node with the npm package tiktoken, and a folder with gpt2.tiktoken,
llama2_tokenizer.model and tinyshakespeare.txt:  ./make_golden.py FOLDER
The small vocabularies, so that the test needs no downloads, are made once and then kept:
  small.tiktoken        troupe tokenizer train --input tinyshakespeare.txt --vocabulary 1001 --output small.tiktoken
  small_bpe.model, small_unigram.model   by this script, where they are missing
"""
import json
import os
import random
import subprocess
import sys

import sentencepiece

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

TEXTS = [
    "", " ", "  ", "\n", "\n\n", "\t", "a", " a", "a ", "  a", "a  ", "a  b", "a   b", "a\nb", "a\n b", "a \nb", "a\n\n\nb",
    "\r\n", "a\r\nb\r\n\r\nc", "a\n  ", "\n  a", " \n \n ", "\t\ta\t b", "x" * 40, " " * 33 + "x", "\n" * 20, "=" * 70,
    "Hello, world!", "The quick brown fox jumps over the lazy dog.", "It's they're I've I'm we'll he'd can't",
    "IT'S THEY'RE I'VE I'M WE'LL HE'D CAN'T", "'s 't 're 've 'm 'll 'd", "''s 'S 'Re 'lL", "'", "''", "'''", "' s", "l'été d'Åse",
    "rock 'n' roll o'clock 'tis", "a'sb 'lla x're", "I'ſ ſ'ſ", "0", "12", "123", "1234", "1234567890", "3.14159 -2e10 0xFF 1,000,000",
    "a1b2c3 4d 5 e", "x = y[3] * (z - 1);  // note", "def f(x):\n    return x ** 2\n\n\nclass A:\n\tpass\n",
    "for (int i = 0; i < n; ++i) {\n  sum += a[i];\n}\n", "#include <vector>\nint main() { return 0; }",
    "<|endoftext|>", "a<|endoftext|>b", "<s> </s> <unk> [INST]", "<|im_start|>user\nhi<|im_end|>", "<0x0A><0xFF>",
    "héllo wörld ñandú", "Ünïcödé ÀÉÎÕÜ", "naïve café résumé", "cafe\u0301 e\u0301 n\u0303", "ﬁ ﬂ Å Å ½ ² ⅷ Ⅷ ①",
    "Привет, мир! Как дела?", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم ١٢٣", "हिन्दी में लिखा १२३", "ไทยภาษา", "ქართული ენა",
    "안녕하세요 세계", "한국어 문장을 토큰으로 나누기, 그리고 숫자 123.", "ㄱㄴㄷ 가각갂", "こんにちは世界", "東京は日本の首都です。2024年", "你好，世界！", "㐀𠀀𪚥 龘",
    "😀", "😀😃😄", "👍🏽 👨‍👩‍👧‍👦 🇩🇪🇰🇷", "I ❤️ NY ☕️", "🤷🏻‍♀️ done", "a😀b 😀 c", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛", "\U000e0001\U0010ffff",
    "a\u00a0b\u00a0\u00a0c", "\u2003em\u2003space", "a\u3000b", "line\u2028para\u2029end", "\u200bzero\u200b\u200dwidth\ufeff", "\u0085next",
    "\u180emongolian\u180e x", "\x00\x01\x02\x7f", "tab\x0bvt\x0cff\x1fus", "▁ ▁▁ a▁b", "\ufffd\ufffe", "٠١٢٣ ৪৫ ௧௨",
    "https://example.org/a?b=c&d=%20#e", "user@example.com", "C:\\Users\\x\\y.txt", "\"quoted\" “curly” ‘single’ «guillemets»",
    "1st 2nd 3rd 4th", "$5.00 €10 £3 ¥100 50%", "(a) [b] {c} <d>", "...!!!???---", "a...b -- c — d – e", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋ ∑∏√",
    "Supercalifragilisticexpialidocious antidisestablishmentarianism", "Donaudampfschifffahrtsgesellschaftskapitän",
    "AAAAAAAAAAAAAAAAAAAAAAAA", "abababababababababab", "\n\n  \n\t \n   indented", "trailing   \n", "word\n\n\n\nword",
]


def random_texts(count):
    rng = random.Random(20240229)
    pools = [
        lambda: rng.randrange(32, 127), lambda: ord(rng.choice(" \n\t\r'")), lambda: rng.randrange(0xC0, 0x590),
        lambda: rng.randrange(0x590, 0x2000), lambda: rng.randrange(0xAC00, 0xD7A4), lambda: rng.randrange(0x1F300, 0x1FA00),
        lambda: rng.randrange(0x4E00, 0x9FFF), lambda: rng.randrange(1, 0x110000),
        lambda: rng.choice([0x85, 0xA0, 0x1680, 0x180E, 0x2028, 0x202F, 0x3000, 0x200B, 0x17F]), lambda: ord(rng.choice("sStTmMdDlLrRvVeE' ")),
        lambda: rng.choice([0x30, 0x39, 0x661, 0x96B, 0xBD, 0x2167]),
    ]
    for _ in range(count):
        main, text = rng.choice(pools), ""
        while len(text) < rng.randrange(4, 28):
            code = (main if rng.random() < 0.5 else rng.choice(pools))()
            if not 0xD800 <= code < 0xE000:
                text += chr(code)
        yield text


def small_models(folder, here):
    for kind in ("bpe", "unigram"):
        path = os.path.join(here, f"small_{kind}")
        if os.path.exists(path + ".model"):
            continue
        plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False} if kind == "bpe" else {
            "normalization_rule_name": "identity"}
        sentencepiece.SentencePieceTrainer.train(
            input=os.path.join(folder, "tinyshakespeare.txt"), model_prefix=path, model_type=kind, vocab_size=700,
            byte_fallback=True, character_coverage=1.0, minloglevel=1, **plain)
        os.remove(path + ".vocab")


def main():
    folder, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
    texts = TEXTS + list(random_texts(60))
    read = lambda path: open(path, encoding="ascii").read()
    small, gpt2 = read(os.path.join(here, "small.tiktoken")), read(os.path.join(folder, "gpt2.tiktoken"))
    request = {"texts": texts, "vocabularies": {
        "gpt2": {"ranks": gpt2, "pattern": GPT2},
        "small_gpt2": {"ranks": small, "pattern": GPT2},
        "small_cl100k": {"ranks": small, "pattern": CL100K}}}
    answer = subprocess.run(["node", os.path.join(here, "make_golden.js")], input=json.dumps(request).encode(),
                            stdout=subprocess.PIPE, check=True).stdout
    ids = json.loads(answer)
    small_models(folder, here)
    for name, path in (("llama2", os.path.join(folder, "llama2_tokenizer.model")),
                       ("small_bpe", os.path.join(here, "small_bpe.model")),
                       ("small_unigram", os.path.join(here, "small_unigram.model"))):
        model = sentencepiece.SentencePieceProcessor(model_file=path)
        ids[name] = [model.encode(text) for text in texts]
    with open(os.path.join(here, "golden.jsonl"), "w", encoding="utf8") as out:
        for i, text in enumerate(texts):
            line = {"text": text, **{name: found[i] for name, found in ids.items()}}
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
