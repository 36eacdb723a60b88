"""Makes C++ of the expert advisor's MQL4 source, as it is deployed, for the runtime beside this.

MQL4 is a dialect of C++ with other arrays, strings and pointers. Only its syntax is changed here;
what it does is in ``runtime/mql4.hpp``. Lines keep their numbers, so that errors name the source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_INPUT = re.compile(r"^input\s+(\w+)\s+(\w+)\s*=", re.MULTILINE)
_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'|[A-Za-z_]\w*|\d[\w.]*|\s+|.',
    re.DOTALL,
)
_NO_TYPES = frozenset({"return", "else", "case", "delete", "new", "goto", "const", "typedef"})
_FUNCTION = re.compile(
    r"^(?!struct\b|class\b)(?P<head>[A-Za-z_][\w<> \*&]*?[\s\*&](?P<name>\w+)\([^;{}]*\))\s*\n\{",
    re.MULTILINE,
)
_STRUCT = re.compile(r"^struct \w+\s*\{.*?^\s*\};\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Source:
    """The files of an advisor, joined in the order of inclusion, and its inputs (name: type)."""

    text: str
    inputs: dict[str, str]


def read(path: Path) -> Source:
    """The source at ``path`` with its own includes in place; libraries' are left out."""
    text = _included(path, set())
    return Source(text, {name: kind for kind, name in _INPUT.findall(text)})


def _included(path: Path, seen: set[Path]) -> str:
    if path in seen:
        return ""
    seen.add(path)
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        own = re.match(r'\s*#include\s+"([^"]+)"', line)
        if own:
            lines += [_included(path.parent / own[1], seen), f'#line {number + 1} "{path.name}"']
        elif re.match(r"\s*#(include|property|import)\b", line):
            lines.append("")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def to_cpp(source: Source) -> str:
    """A C++ translation unit."""
    body = _INPUT.sub(r"\1 \2 =", source.text)
    body = _rewrite(body)
    structs = "".join(match[0] for match in _STRUCT.finditer(body))
    defines = "\n".join(re.findall(r"^#define [^\n]*", body, re.MULTILINE))
    globals_ = "\n".join(f"extern {kind} {name};" for name, kind in source.inputs.items())
    prototypes = "\n".join(f"{match['head']};" for match in _FUNCTION.finditer(body))
    body = _STRUCT.sub(lambda match: "\n" * match[0].count("\n"), body)
    setters = "\n".join(
        f'  if (name == "{name}") return mql::read_input(value, {name});' for name in source.inputs
    )
    return (
        f'#include "mql4.hpp"\n{defines}\n{structs}\n{globals_}\n{prototypes}\n{body}\n'
        '#line 1 "entry"\n'
        "static bool set_input(const std::string &name, const std::string &value) {\n"
        f"{setters}\n  return false;\n}}\n"
        '#include "entry.hpp"\n'
    )


def _rewrite(text: str) -> str:
    tokens = _TOKEN.findall(text)
    pointers = set(re.findall(r"^\w+ \*(\w+)\s*=\s*NULL;", text, re.MULTILINE))
    pointers |= set(re.findall(r"\bSocket \*(\w+)[,)]", text))
    out: list[str] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.startswith('"') and not _on_line_directive(out):
            out.append(f"_S({token})")
        elif token == "[" and (done := _array(out, tokens, index)):
            index = done
            continue
        elif token == "." and _last(out) in pointers:
            out.append("->")
        else:
            out.append(token)
        index += 1
    return "".join(out)


def _on_line_directive(out: list[str]) -> bool:
    line = "".join(out[-8:]).rpartition("\n")[2]
    return line.startswith("#line")


def _last(out: list[str]) -> str:
    return out[-1] if out else ""


def _array(out: list[str], tokens: list[str], index: int) -> int:
    """Rewrite ``TYPE NAME[SIZE]`` or ``TYPE &NAME[]``, whose tail is in ``out``.

    Returns the index after it, 0 if it is no declaration.
    """
    closing = tokens.index("]", index)
    size = "".join(tokens[index + 1 : closing]).strip()
    name = out[-1]
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        return 0
    reference = out[-2] == "&" and not size
    at = -3 if reference else -2
    while out[at].isspace():
        at -= 1
    kind = out[at]
    if not re.fullmatch(r"[A-Za-z_]\w*", kind) or kind in _NO_TYPES or at == -2:
        return 0
    tail = f" &{name}" if reference else f" {name}" + (f"({size})" if size else "")
    out[at:] = [f"Array<{kind}>{tail}"]
    return closing + 1
