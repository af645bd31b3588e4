r"""What a text says about its answer: denies it beforehand, takes it back, or claims another one after it.

Only what speaks of the answer counts. "Books not sold: \boxed{42}" denies nothing, nor does "No other solution exists."
after it, and a check such as "(6 \cdot 7 = 42)" is no second answer.
"""

from __future__ import annotations

import re

# ---------------------------------------------------------------- before an answer

FILLERS = (
    r"(?:[\s*$({\[:]|\\[(\[]|\\text|\\,|\b(?:be|equals?|equal to|to|the|a|an|of|exactly|just|simply|definitely|really|"
    r"actually|certainly|necessarily|by any means|answer|final|correct|is|it|that|value|result|number)\b)*"
)
NEGATED = re.compile(
    rf"(?:\b(?:not|cannot|never|neither|nor|except|ruled? out|instead of|(?:rather|other) than|anything but)\b"
    rf"|n't\b){FILLERS}\Z"
    rf"|(?:\\neq?(?![a-z])|≠|!=)[\s$*({{\\]*\Z"
    r"|\b(?:wrong|incorrect|false|mistake|tempting) (?:to|that|answer|value|result)\b.*\Z|\bdoubt\b.*\Z"
    r"|\bone might (?:guess|think|say|believe)\b.*\Z"
    r"|\bnot (?:true|correct|right|the case)\b.*\Z|(?:n't|\bnot) (?:think|believe|say|claim)\b.*\Z",
    re.IGNORECASE | re.DOTALL,
)

SIGNS = ("not", "other", "but", "n't", "never", "either", "nor", "except", "rule", "instead", "rather",
         "wrong", "doubt", "false", "mistake", "incorrect", "tempting", "guess", "think", "say", "believe", "\\ne", "≠",
         "!=")  # fmt: skip
"""A negation has one of them: a quick look first."""


def is_denied(text: str, start: int) -> bool:
    """Whether a negation is said of what begins at ``start``, in its clause."""
    before = text[max(0, start - 80) : start].replace("’", "'")
    quick = before.lower()
    if not any(sign in quick for sign in SIGNS):
        return False
    clause = before[max(map(before.rfind, ".;?!\n")) + 1 :] if not before.endswith("!=") else before
    last = clause.rpartition(",")[2]
    found = NEGATED.search(last if any(map(str.isalpha, last)) else clause)
    return found is not None and not (found[0].lower().startswith("except") and ALL_BUT.search(clause[: found.start()]))


ALL_BUT = re.compile(r"\b(?:none|no|nothing|nobody|fails?|wrong)\b", re.IGNORECASE)


PART = re.compile(
    r"(?:[0-9A-Za-z)}]\s*[+/^]|[0-9)}]\s*\*|\\(?:times|cdot|div|pm|mp)|\\(?:sqrt|[dt]?frac|log|ln|sin|cos|tan)(?:\[[^\[\]]*\])?\s*\{?"
    r"|[0-9=(]\s*[-−]|[\^_]\s*\{|(?<![A-Za-z</])[A-Za-z]\s*[<>])\s*\Z|(?:[0-9]|(?<!-)[-−])\Z"
)
PART_IN_WORDS = re.compile(
    r"(?:\b(?:twice|double|triple|minus|negative|half of|square(?: root)? of|cube(?: root)? of|[0-9] over"
    r"|(?:more|less|fewer|greater|smaller|larger|higher|lower) than|below|above)|[0-9]\$?,?\s*\bor)\Z",
    re.IGNORECASE,
)
LAST_WORDS = ("twice", "double", "triple", "minus", "negative", "of", "over", "than", "below", "above", "or")


def is_part(text: str, start: int) -> bool:
    """Whether what begins at ``start`` is only a part of a formula, in signs or in words: after a sign, in a root or a
    fraction, twice it; or one of several."""
    before = text[max(0, start - 30) : start]
    if PART.search(before, max(0, len(before) - 20)) is not None:
        return True
    before = before.rstrip(" $*(\n")
    return before.lower().endswith(LAST_WORDS) and PART_IN_WORDS.search(before) is not None


# ---------------------------------------------------------------- after an answer

ONES = "zero|one|two|three|four|five|six|seven|eight|nine"
NUMBER_WORD = (
    rf"(?:{ONES}|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)"
    rf"(?:[- ](?:{ONES}|hundred|thousand))*\b"
)
VALUE = (
    r"(?:\$\$?[^$\n]{1,80}\$|\\\(.{1,80}?\\\)|\\boxed"
    r"|[+-]?\\?\$?(?:\\[dt]?frac ?\{[^{}\n]{1,40}\} ?\{[^{}\n]{1,40}\}|[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?:/[0-9]+)?)"
    rf"(?:\s?\\?%)?|{NUMBER_WORD})"
)
END = r"\A(?:[\s.$)\]}*]|\\[)\],;! ]|\\end\{[a-z]+\*?\})*"
"""What may end the formula and the sentence of an answer."""
SUBJECT = (
    r"(?:\A[\s$)\]*\\]*,?\s*(?:which |that |this |it )?"
    r"|\b(?:(?:this|that|it|which)|(?:the|my|this|that) (?:\w+ )?(?:answer|result|value|solution|box))\s*)"
)
BE = r"(?:'s|\b(?:is|was|are|be|ca|can|could|does|did|would|will|must|should|seems?|looks?))(?: be)?"
START = r"(?:\A\W*|[.!?\n][\s*.]{0,9}|[—–]\s*)"
TAKEN_BACK = re.compile(
    rf"{END}\?"
    rf"|\A[\s$)\]*\\]*{BE}(?: \w+ly| just)? ?(?:\bnot\b|n't\b)"
    rf"|\A\W*(?:wrong|incorrect|false|maybe|perhaps|possibly|unless (?:it|that|this)|or not|not\W*\Z)\b"
    r"|\A[\s.(]*not [0-9]|\A\W*[✗✘≠]"
    rf"|\A\s*-ish\b|\b(?:changed my mind|i retract|i (?:forgot|miscounted|misread)|ignore the (?:box|above))\b"
    rf"|\bthe above {BE} (?:wrong|incorrect|false)\b|\bi am (?:wrong|mistaken)\b|{SUBJECT}cannot be\b"
    rf"|{SUBJECT}{BE}(?: \w+)? (?:wrong|incorrect|false|mistaken|invalid|an? (?:mistake|error))\b"
    rf"|{SUBJECT}{BE}(?: ?not|n't) (?:an? |the )?(?:\w+ )?(?:correct|right|answer|valid|true|it|possible|what)\b"
    rf"|{START}(?:hmm+|oops|whoops|sorry|nope|scratch that|strike that|hold on|on second thoughts?|correction"
    rf"|never ?mind|i take (?:that|it) back|ignore (?:that|this)|disregard|actually"
    r"|wait(?=\s*(?:[,.!?:;—–-]|\Z|(?:i|that|this|no|let|but|actually|it|the|we|is|what)\b))"
    r"|no(?=\s*(?:[,.!;:—–-]|wait\b|\Z))|let me (?:re|correct|fix|try))"
    r"|\bmy (?:mistake|bad|error)\b"
    r"|\b(?:i|we) (?:have )?(?:made|was|were|got|did|mis\w+)\b[^.\n]{0,25}\b(?:mistaken?|error|wrong"
    r"|incorrect(?:ly)?)\b",
    re.IGNORECASE,
)
OPERATION = re.compile(
    r"\A\s*(?:\^(?!\s*\{?\s*\\circ)|_|\\(?:times|cdot|div|pm|mp|frac|sqrt|pi)(?![A-Za-z])|[+*]\s*[0-9(\\]"
    r"|[-–]\s?[0-9(\\]|/\s*[0-9(\\]|\}\s*\{|\|\s*[-+*/^]|:[0-9]{2}|\\(?:b?mod|pmod))"
    r"|\A(?:\.?[0-9]|[A-Za-z](?![A-Za-z]))"
    r"|\A[\s$*]*(?:squared|cubed|plus|minus|times(?! (?:more|as|the|faster|larger))|divided by|mod|dozen|tenths?"
    r"|(?:hundred|thousand|million|billion)(?:s|ths?)?|and a (?:half|quarter|third))\b",
    re.IGNORECASE,
)
"""The answer is a part of something larger."""
NEXT = re.compile(
    rf"{END}(?:(?:[,;/=|→]|\\(?:right)?(?:arrow|to)(?![A-Za-z])|\bvs\.?|\balternatively\b|\bedit\b:"
    rf"|\\text ?\{{ ?(?:or|and) ?\}}|\b(?:or|and|to|else|even|maybe|perhaps|possibly|also))\s*)+"
    rf"[\s*]*(?P<value>{VALUE}|(?<=or )[^\W\d_]+)|\A *(?P<other>-?[0-9][0-9.,]*)",
    re.IGNORECASE,
)
EQUAL = re.compile(r"\A\s*=(?P<value>[^$\n]*?)(?:\$|\\\]|\\\)|\n|\.?\Z|\.\s)")
CLAIM = re.compile(
    r"(?:(?P<mark>####|<answer>|<SOLUTION>)"
    r"|\b(?:answer|solution|result)\b(?:[^.\n:=]{0,30}?(?:\b(?:is|was|be|equals|becomes)\b|[:=])|[*\s]*\n)"
    r"|\b(?:rechecking|recalculating|recomputing),? (?:i|we) get\b"
    r"|\b(?:so|thus|hence|therefore),? \$?[a-z] ?="
    r")"
    rf"(?:[\s*:=]|\b(?:actually|really|therefore|thus|indeed|simply|just|equal to|instead|the|is)\b)*"
    rf"(?P<text>(?P<value>{VALUE})?[^\n<]{{0,80}})",
    re.IGNORECASE,
)
CLOSED = re.compile(r"\A\s*(?:\*\*)?(?:\$\$?|\\\)|\\\])")
"""The end of the formula that an answer stands in."""
CORRECTED = re.compile(
    r"(?:\b(?:should|must)(?: actually| really| instead)? (?:be|have been|equal)\b|\bi mean\b|\bmake (?:that|it)\b"
    r"|\b(?:it|this|that|answer) (?:might|may|could)(?: also| even| well)? be\b"
    r"|\b(?:i think|perhaps|maybe|unless) it is\b"
    r"|\bi think\b(?=[^.\n]*\bright\b)"
    rf"|\b(?:it|this|that)(?: is|'s) (?:actually|really|instead|rather)\b)[\s*]*(?P<value>{VALUE})"
    r"(?=[\s*$]*(?:\Z|[.,;!\n]|instead\b))"
    rf"|(?P<too>{VALUE}) is (?:also )?(?:possible|right|correct)\b"
    rf"|(?P<named>{VALUE}) (?:as|is) (?:the|our|my) (?:\w+ )?(?:answer|solution|result)\b",
    re.IGNORECASE,
)
PROSE = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}")
SENTENCE = re.compile(r"[.!?](?=\s|\Z|\*)")


def later_claims(after: str, *, in_words: bool) -> list[tuple[str, ...]] | None:
    """What a text claims the answer to be after its answer: of each claim the ways in which it may be read.

    None when it takes the answer back. ``in_words``: the answer is a word, so that a claim may be one too.
    """
    after = CLOSED.sub("", after.replace("’", "'"), count=1)
    if TAKEN_BACK.search(after) or OPERATION.search(after):
        return None
    claims: list[tuple[str, ...]] = []
    if equal := EQUAL.match(after):
        claims.append((equal["value"].rpartition("=")[2], equal["value"].partition("=")[0]))
    elif following := NEXT.match(after):
        value = following["value"] or following["other"]
        if in_words or not value.isalpha() or re.fullmatch(NUMBER_WORD, value, re.IGNORECASE):
            claims.append((value,))
    for claim in CLAIM.finditer(after):
        text = SENTENCE.split(claim["text"])[0].strip(" *.")
        if claim["value"] or claim["mark"]:
            claims.append((claim["value"] or "", text))
        elif text and not PROSE.search(text):
            claims.append((text,))
        elif in_words and text:
            claims.append((text, text.split()[0].strip(",;:*")))
    claims.extend((found["value"] or found["too"] or found["named"],) for found in CORRECTED.finditer(after))
    return claims
