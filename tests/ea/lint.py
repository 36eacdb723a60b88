"""Checks that the advisor's source uses only what MQL4 has, for g++ takes more than MetaEditor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.ea import mql4_names as names

_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|[A-Za-z_]\w*|\d[\w.]*|\n|[^\S\n]+|::|.',
    re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_]\w*")
#: What stops the terminal, or is C++ and not MQL4.
_FOREIGN = "Sleep goto auto nullptr static_cast namespace using try catch throw unsigned signed"
_FORBIDDEN = frozenset(_FOREIGN.split())
_STRICT = "#property strict"


def problems(advisor: Path) -> list[str]:
    """Everything that is wrong in ``advisor`` and what it includes: ``file:line: what``."""
    files = [advisor, *sorted((advisor.parent / advisor.stem).glob("*.mqh"))]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    found = []
    for path, text in texts.items():
        if not text.isascii():
            found.append(f"{path.name}: only ASCII")
        if _STRICT not in text:
            found.append(f"{path.name}: no {_STRICT}")
    known = _Known(texts.values())
    for path, text in texts.items():
        found += [f"{path.name}:{line}: {what}" for line, what in _check(text, known)]
    return found


class _Known:
    """What the source itself defines."""

    def __init__(self, texts: Iterable[str]) -> None:
        joined = "\n".join(texts)
        self.defines = set(re.findall(r"^#define (\w+)", joined, re.MULTILINE))
        self.structs = set(re.findall(r"^struct (\w+)", joined, re.MULTILINE))
        heads = re.findall(
            r"^(?!struct\b)[A-Za-z_]\w*[ \*&]+(\w+)\(([^;{}]*)\)\s*\n\{", joined, re.MULTILINE
        )
        self.functions = {name: _parameters(text) for name, text in heads}


def _parameters(text: str) -> int:
    return 0 if not text.strip() else text.count(",") + 1


def _check(text: str, known: _Known) -> Iterator[tuple[int, str]]:
    line = 1
    tokens: list[tuple[int, str]] = []
    for token in _TOKEN.findall(text):
        if not token.isspace() and not token.startswith(("//", "/*")):
            tokens.append((line, token))
        line += token.count("\n")
    for place, (number, token) in enumerate(tokens):
        if not _WORD.fullmatch(token) or _is_directive(tokens, place):
            continue
        if what := _wrong(tokens, place, token, known):
            yield number, what


def _is_directive(tokens: list[tuple[int, str]], place: int) -> bool:
    line = tokens[place][0]
    while place >= 0 and tokens[place][0] == line:
        if tokens[place][1] == "#":
            return True
        place -= 1
    return False


def _wrong(tokens: list[tuple[int, str]], place: int, token: str, known: _Known) -> str | None:
    before = tokens[place - 1][1] if place else ""
    after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
    if token in _FORBIDDEN:
        return f"{token} has no place here"
    if token in names.KEYWORDS or token in names.TYPES or token in known.structs:
        return None
    if after == "(" and not _is_declared(before, known):
        return _wrong_call(tokens, place, token, before, known)
    constant = token.isupper() and len(token) > 1 and before != "."
    if constant and token not in known.defines and token not in names.CONSTANTS:
        return f"MQL4 has no {token}"
    return None


def _is_declared(before: str, known: _Known) -> bool:
    """Whether what comes behind is declared, and not called."""
    return before in known.structs or before in names.TYPES


def _wrong_call(
    tokens: list[tuple[int, str]], place: int, token: str, before: str, known: _Known
) -> str | None:
    count = _arguments(tokens, place + 1)
    if before in (".", "::"):
        table, kind = names.METHODS, "mql-zmq"
    elif token in known.functions:
        wanted = known.functions[token]
        return None if count == wanted else f"{token} takes {wanted} arguments, not {count}"
    else:
        table, kind = names.FUNCTIONS, "MQL4"
    if token not in table:
        return f"{kind} has no {token}"
    least, most = table[token]
    return None if least <= count <= most else f"{token} does not take {count} arguments"


def _arguments(tokens: list[tuple[int, str]], opening: int) -> int:
    depth, count = 0, 0
    for _, token in tokens[opening:]:
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
            if depth == 0:
                return count
        elif depth == 1 and token == ",":
            count += 1
        if depth == 1 and token != "(" and count == 0:
            count = 1
    return count
