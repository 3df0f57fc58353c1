"""YAML as a plain structure: every value keeps the text in which it is written, and every place its line."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from ledger.errors import InvalidError

MAX_FILE_CHARACTERS = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 100_000

NULL, TEXT, DATE, WHOLE, DECIMAL, FLAG = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "str", "timestamp", "int", "float", "bool")
)


class Scalar(str):
    """A value as it is written; `tag` says what YAML takes it for, text being quoted or nothing else."""

    __slots__ = ("tag",)
    tag: str

    @classmethod
    def of(cls, text: str, tag: str) -> "Scalar":
        """Return the text with its tag."""
        scalar = cls(text)
        scalar.tag = tag
        return scalar


Plain = Mapping[str, "Plain"] | Sequence["Plain"] | Scalar


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a place of a file, with the remedy; line 0 stands for a value given beside the file."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (f"line {self.line}" if self.line else "", self.path, self.message) if part)


class FileError(InvalidError):
    """A file that cannot be taken; `problems` are all that were found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


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

    def is_refused(self, path: str) -> bool:
        """Say whether a problem is noted at just that path."""
        return any(problem.path == path for problem in self.problems)

    def settle(self) -> None:
        """Raise `FileError` with all problems; return where there are none."""
        if self.problems:
            raise FileError(self.problems)


@dataclass(frozen=True, slots=True)
class Part:
    """A file's content, or a part of it that stands at a path."""

    content: Plain
    path: str
    findings: Findings

    def below(self, key: str) -> "tuple[Part, ...]":
        """Return the items of the list that a key of this mapping holds; none where there is no list."""
        held = self.content.get(key) if isinstance(self.content, Mapping) else None
        if not isinstance(held, list):
            return ()
        return tuple(Part(item, f"{joined(self.path, key)}[{n}]", self.findings) for n, item in enumerate(held))

    def scalar(self, key: str) -> Scalar | None:
        """Return the value that a key of this mapping holds; None where there is none."""
        held = self.content.get(key) if isinstance(self.content, Mapping) else None
        return held if isinstance(held, Scalar) else None


def joined(path: str, key: str | int) -> str:
    """Return the path of a mapping's key, or of a list's item."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def read_document(text: str) -> Part:
    """Return the content of a file of one document; raise `FileError` when it is not YAML or empty."""
    found = _composed(text, lambda: [yaml.compose(text, Loader=yaml.SafeLoader)])
    return next(_parts(found, Findings()))


def read_items(text: str) -> tuple[Part, ...]:
    """Return each thing that a file describes: one or several documents, or lists of them; raise `FileError`."""
    nodes = [
        item
        for document in _composed(text, lambda: yaml.compose_all(text, Loader=yaml.SafeLoader))
        for item in (document.value if isinstance(document, yaml.SequenceNode) else [document])
    ]
    if not nodes:
        raise FileError([_EMPTY])
    return tuple(_parts(nodes, Findings()))


_EMPTY = Problem(1, "", "the file is empty; write at least one document into it")


def _composed(text: str, compose: Callable[[], Iterable[yaml.Node | None]]) -> list[yaml.Node]:
    """Return the documents of a file, at least one, whatever they say; raise `FileError`."""
    if len(text) > MAX_FILE_CHARACTERS:
        raise FileError([Problem(1, "", f"the file is over {MAX_FILE_CHARACTERS} characters; split it")])
    try:
        found = [node for node in compose() if node is not None and node.tag != NULL]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"is not YAML: {error.problem or error.context}; check indentation, colons and quotes"
        raise FileError([Problem(1 if mark is None else mark.line + 1, "", message)]) from error
    except yaml.YAMLError as error:
        raise FileError([Problem(1, "", f"is not YAML: {error}".splitlines()[0])]) from error
    except RecursionError as error:
        raise FileError([Problem(1, "", "is nested too deeply; write it flat")]) from error
    if not found:
        raise FileError([_EMPTY])
    return found


def _parts(nodes: Sequence[yaml.Node], findings: Findings) -> Iterator[Part]:
    reader = _Reader(findings)
    for n, node in enumerate(nodes):
        path = f"[{n}]" if len(nodes) > 1 else ""
        findings.lines[path] = node.start_mark.line + 1
        yield Part(reader.plain(node, path, 0), path, findings)


@dataclass(slots=True)
class _Reader:
    """Turns nodes into plain values; an alias that stands for ever more of them ends as a `FileError`."""

    findings: Findings
    values: int = 0

    def plain(self, node: yaml.Node, path: str, depth: int) -> Plain:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            line = node.start_mark.line + 1
            raise FileError(
                [Problem(line, path, "is nested too deeply, or repeats too much by aliases; write it flat")]
            )
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path, depth)
            case yaml.SequenceNode():
                for n, item in enumerate(node.value):
                    self.findings.lines[f"{path}[{n}]"] = item.start_mark.line + 1
                return [self.plain(item, f"{path}[{n}]", depth + 1) for n, item in enumerate(node.value)]
            case _:
                return Scalar.of(node.value, node.tag)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> Plain:
        """Return a mapping without the keys whose value is null: they are absent."""
        found: dict[str, Plain] = {}
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            place = joined(path, key)
            line, first = key_node.start_mark.line + 1, self.findings.lines.get(place)
            if first is not None and key in {one.value for one, _ in node.value if one is not key_node}:
                message = f"stands here again, first in line {first}; keep one"
                self.findings.problems.append(Problem(line, place, message))
                continue
            self.findings.lines[place] = line
            if value.tag != NULL:
                found[key] = self.plain(value, place, depth + 1)
        return found
