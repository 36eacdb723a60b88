"""What the expert advisor answers: Python-like text, which is read here and never evaluated.

Replies have the form ``{'_action': 'HIST', '_data': [{'time': '2020.11.02 14:30', …}]}``: single
quotes, integer keys, no escaping. An order's comment stands in them unchecked, so that running
them as code (as the published connector does) would run whatever somebody wrote into a comment.
"""

from __future__ import annotations

import re
from typing import Any

from livetrader_core.errors import ProtocolError

#: A longer reply is refused; 100,000 bars are about 15 MB.
LONGEST_REPLY = 64 * 1024 * 1024
_DEEPEST = 8

_SPACE = re.compile(r"\s*")
# A quote ends a string only before what may follow a string: comments may hold quotes.
_STRING = re.compile(r"'(.*?)'(?=\s*[,:}\]]|\s*$)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?(?![\w.#])")
# A key with a plain value after it: almost all of a long reply.
_PAIR = re.compile(
    r"\s*(?:'(?P<name>[^']*)'|(?P<number>\d+))\s*:\s*"
    r"(?:'(?P<text>[^']*)'(?=\s*[,}])|(?P<value>-?\d+(?:\.\d*)?)(?=\s*[,}]))?"
)

_PRICE = r"(-?\d+(?:\.\d*)?)"
# A bar in one go, as it is written: a long history is nothing else.
_BAR = re.compile(
    r"\{'time':\s*'([^']*)',\s*'open':\s*%s,\s*'high':\s*%s,\s*'low':\s*%s,\s*'close':\s*%s,"
    r"\s*'tick_volume':\s*%s,\s*'spread':\s*%s,\s*'real_volume':\s*%s\}\s*" % ((_PRICE,) * 7)
)

Reply = dict[Any, Any]


def parse_reply(frame: bytes) -> Reply:
    """The mapping in ``frame``; of a repeated key the last one. Raises ProtocolError.

    A superfluous ``}`` at the end, which the advisor writes with DMA_MODE off, is left out.
    """
    if len(frame) > LONGEST_REPLY:
        raise ProtocolError(f"a reply of {len(frame)} bytes is longer than {LONGEST_REPLY}")
    text = frame.decode("utf-8", errors="replace")
    reader = _Reader(text)
    if not reader.take("{"):
        raise reader.error("a reply must begin with {")
    found = reader.mapping(1)
    while reader.take("}"):
        continue
    if reader.position != len(text):
        raise reader.error("nothing may follow the last }")
    return found


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = self._skip(0)

    def _skip(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        assert match is not None
        return match.end()

    def take(self, mark: str) -> bool:
        """Step over ``mark`` and the space behind it, if it stands here."""
        if not self.text.startswith(mark, self.position):
            return False
        self.position = self._skip(self.position + 1)
        return True

    def mapping(self, depth: int) -> Reply:
        """The rest of a mapping whose ``{`` was taken."""
        found: Reply = {}
        if self.take("}"):
            return found
        while True:
            match = _PAIR.match(self.text, self.position)
            if match is None:
                raise self.error("a key was expected")
            self.position = self._skip(match.end())
            name, number, text, value = match.groups()
            key = name if number is None else int(number)
            if text is not None:
                found[key] = text
            elif value is not None:
                found[key] = float(value) if "." in value else _whole(value, self)
            else:
                found[key] = self.value(depth)
            if self.take("}"):
                return found
            if not self.take(","):
                raise self.error("expected , or }")

    def sequence(self, depth: int) -> list[Any]:
        """The rest of a list whose ``[`` was taken."""
        found: list[Any] = []
        if self.take("]"):
            return found
        while True:
            found.append(self.value(depth))
            if self.take("]"):
                return found
            if not self.take(","):
                raise self.error("expected , or ]")

    def value(self, depth: int) -> Any:
        """A text, a number, a mapping or a list."""
        if match := _BAR.match(self.text, self.position):
            self.position = match.end()
            time, open_, high, low, close, ticks, spread, volume = match.groups()
            return {
                "time": time,
                "open": float(open_),
                "high": float(high),
                "low": float(low),
                "close": float(close),
                "tick_volume": float(ticks),
                "spread": float(spread),
                "real_volume": float(volume),
            }
        if depth > _DEEPEST:
            raise self.error(f"it is nested more than {_DEEPEST} deep")
        if self.take("{"):
            return self.mapping(depth + 1)
        if self.take("["):
            return self.sequence(depth + 1)
        if match := _STRING.match(self.text, self.position):
            self.position = self._skip(match.end())
            return match[1]
        if match := _NUMBER.match(self.text, self.position):
            self.position = self._skip(match.end())
            plain = match[1] is None and match[2] is None
            return _whole(match[0], self) if plain else float(match[0])
        raise self.error("a value was expected")

    def error(self, reason: str) -> ProtocolError:
        """What is wrong at this place."""
        near = self.text[max(0, self.position - 20) : self.position + 40]
        return ProtocolError(
            f"a reply of the expert advisor cannot be read at character {self.position}: "
            f"{reason}, near {near!r}"
        )


def _whole(digits: str, reader: _Reader) -> int:
    if len(digits) > 20:
        raise reader.error("a number is too long")
    return int(digits)
