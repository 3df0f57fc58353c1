"""Reading the YAML that people write: every value knows its line, every problem is noted, numbers stay as written."""

import difflib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import yaml

from ledger.checks import check_slug, check_text
from ledger.errors import InvalidError

MAX_FILE_CHARACTERS = 256 * 1024
MAX_WHOLE_DIGITS = 15
MAX_PLACES = 12
MAX_DURATION = timedelta(days=366)

_TAG = "tag:yaml.org,2002:"
_NULL, _TEXT, _DATE = f"{_TAG}null", f"{_TAG}str", f"{_TAG}timestamp"
_NUMBERS = frozenset((f"{_TAG}int", f"{_TAG}float", _TEXT))
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a place of a file, with the remedy; line 0 stands for a value given beside the file."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (f"line {self.line}" if self.line else "", self.path, self.message) if part)


@dataclass(frozen=True, slots=True)
class Findings:
    """What reading a file has found so far: its problems, and the line of every path that it has."""

    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def line_of(self, path: str) -> int:
        """Return the line of a path, or of the nearest place around it that the file has."""
        while path not in self.lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 1)

    def refuse(self, path: str, message: str) -> None:
        """Note a problem at a path."""
        self.problems.append(Problem(self.line_of(path), path, message))


@dataclass(frozen=True, slots=True)
class Value:
    """A value in a file. Each reader returns it as what is asked for, or notes a problem and returns None."""

    node: yaml.Node
    path: str
    findings: Findings

    def refuse(self, message: str) -> None:
        """Note a problem with this value."""
        self.findings.refuse(self.path, message)

    def members(self, required: Collection[str], optional: Collection[str] = ()) -> "dict[str, Value] | None":
        """Return the members of a mapping by key; unknown, repeated and missing keys are problems. Null is absent."""
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse(f"must be a mapping with the keys {', '.join([*required, *optional])}")
            return None
        found: dict[str, Value] = {}
        known = [*required, *optional]
        for key_node, node in self.node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            path = f"{self.path}.{key}" if self.path else key
            first = self.findings.lines.get(path)
            self.findings.lines[path] = key_node.start_mark.line + 1
            if key not in known:
                self.findings.refuse(path, f"is not a known key; {_instead(key, known)}")
            elif first is not None:
                self.findings.refuse(path, f"stands here again, first in line {first}; keep one")
            elif node.tag != _NULL:
                found[key] = Value(node, path, self.findings)
        for key in required:
            if key not in found:
                path = f"{self.path}.{key}" if self.path else key
                self.findings.refuse(path, "is missing; add it")
        return found

    def member(self, key: str) -> "Value | None":
        """Return one member of a mapping, without judging the others; None where there is none."""
        if isinstance(self.node, yaml.MappingNode):
            for key_node, node in self.node.value:
                if isinstance(key_node, yaml.ScalarNode) and key_node.value == key and node.tag != _NULL:
                    path = f"{self.path}.{key}" if self.path else key
                    return Value(node, path, self.findings)
        return None

    def items(self) -> "Iterator[Value]":
        """Return the values of a list, in order."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.refuse("must be a list; begin each item with a hyphen, or write [a, b]")
            return
        for index, node in enumerate(self.node.value):
            path = f"{self.path}[{index}]"
            self.findings.lines[path] = node.start_mark.line + 1
            yield Value(node, path, self.findings)

    def text(self) -> str | None:
        """Return a text of 1 to 200 printable characters."""
        written = self._scalar({_TEXT}, "text; put it in quotes")
        return None if written is None else self._checked(written, check_text)

    def slug(self) -> str | None:
        """Return an id."""
        written = self._scalar({_TEXT}, "an id; put it in quotes")
        return None if written is None else self._checked(written, check_slug)

    def choice(self, known: Collection[str]) -> str | None:
        """Return one of the known words."""
        written = self._scalar({_TEXT}, f"one of {', '.join(known)}")
        if written is not None and written not in known:
            self.refuse(f"{written!r} is not known; {_instead(written, known)}")
            return None
        return written

    def number(self) -> Decimal | None:
        """Return a number exactly as it is written, quoted or not: never by way of a binary fraction."""
        written = self._scalar(_NUMBERS, 'a number such as "0.00004"')
        if written is None:
            return None
        if not _NUMBER.fullmatch(written):
            self.refuse(f'{written!r} is not a number; write its digits plainly, such as 1000000 or "0.00004"')
            return None
        whole, _, places = written.lstrip("-").partition(".")
        if len(whole) > MAX_WHOLE_DIGITS or len(places) > MAX_PLACES:
            self.refuse(
                f"{written} must have at most {MAX_WHOLE_DIGITS} digits before and {MAX_PLACES} after the point"
            )
            return None
        return Decimal(written)

    def whole(self, least: int, most: int) -> int | None:
        """Return a whole number from `least` to `most`."""
        number = self.number()
        if number is None:
            return None
        if number != number.to_integral_value() or not least <= number <= most:
            self.refuse(f"{number} must be a whole number from {least} to {most}")
            return None
        return int(number)

    def duration(self) -> timedelta | None:
        """Return a duration such as 30s, 10m, 12h or 3d, at most 366 days."""
        written = self._scalar(_NUMBERS, "a duration such as 12h or 3d")
        if written is None:
            return None
        match = _DURATION.fullmatch(written)
        if match is None:
            self.refuse(f"{written!r} is not a duration; write a whole number with its unit: 30s, 10m, 12h or 3d")
            return None
        length = timedelta(**{_UNITS[match[2]]: int(match[1])})
        if length > MAX_DURATION:
            self.refuse(f"{written} must be at most {MAX_DURATION.days}d")
            return None
        return length

    def date_text(self) -> str | None:
        """Return a date or moment as it is written."""
        return self._scalar({_TEXT, _DATE}, "a date such as 2026-01-01")

    def _scalar(self, tags: Collection[str], wanted: str) -> str | None:
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag in tags:
            written: str = self.node.value
            return written
        shown = repr(self.node.value) if isinstance(self.node, yaml.ScalarNode) else "a list or mapping"
        self.refuse(f"{shown} must be {wanted}")
        return None

    def _checked(self, written: str, check: Callable[[str, str], None]) -> str | None:
        try:
            check("value", written)
        except InvalidError as error:
            self.refuse(str(error).removeprefix("value "))
            return None
        return written


def read_yaml(text: str) -> tuple[Value | None, Findings]:
    """Return a file's one document, or None with the problem that keeps it from being read."""
    findings = Findings()
    if len(text) > MAX_FILE_CHARACTERS:
        findings.problems.append(Problem(1, "", f"the file is over {MAX_FILE_CHARACTERS} characters; split it"))
        return None, findings
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"is not YAML: {error.problem or error.context}; check indentation, colons and quotes"
        findings.problems.append(Problem(1 if mark is None else mark.line + 1, "", message))
        return None, findings
    except yaml.YAMLError as error:
        findings.problems.append(Problem(1, "", f"is not YAML: {error}".splitlines()[0]))
        return None, findings
    except RecursionError:
        findings.problems.append(Problem(1, "", "is nested too deeply; write it flat"))
        return None, findings
    if node is None:
        findings.problems.append(Problem(1, "", "the file is empty; write the contract into it"))
        return None, findings
    return Value(node, "", findings), findings


def _instead(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
