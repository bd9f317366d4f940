"""JSON, YAML and XML from outside, with limits on bytes, nesting and what aliases stand for."""

from __future__ import annotations

import codecs
import json
import os
import re
from typing import Any
from xml.etree import ElementTree

import yaml

from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import check
from clipseg_ws.door.plain import encoding_of, read_data, read_text

_EXPORT = "export it again, or mend the file"


def parse_json(text: str | bytes, file: object = "", what: str = "JSON") -> Any:
    """JSON. Raises InputError for what is none, or is nested deeper than Python's parser goes."""
    with reading(file, what, advice=_EXPORT if file else ""):
        return json.loads(text)


def read_json(path: str | os.PathLike[str], what: str = "JSON") -> Any:
    """A JSON file in UTF-8 or UTF-16. Raises FileNotFoundError, InputError."""
    return parse_json(read_text(path), path, what)


def read_mapping(path: str | os.PathLike[str], what: str = "a JSON mapping") -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises FileNotFoundError, InputError."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"not {what}: it holds a {type(content).__name__}", file=path)
    return content


class _Loader(yaml.SafeLoader):
    """Plain values only; nesting and what aliases stand for are counted before anything is made."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One level deeper."""
        self._depth += 1
        check("depth", self._depth, "it is nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _weight(node: Any, known: dict[int, int], open_: set[int]) -> int:
    """Values below a node, those behind aliases counted each time. Raises InputError for too many, or a circle."""
    if id(node) in open_:
        raise InputError("an alias stands for a value around itself", advice="write the value out")
    if id(node) not in known:
        open_.add(id(node))
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_weight(part, known, open_) for part in parts)
        open_.discard(id(node))
        check("values", known[id(node)], "its aliases stand for too many values")
    return known[id(node)]


def parse_yaml(text: str, file: object = "", what: str = "YAML") -> Any:
    """YAML of plain values. Raises InputError for tags that make objects, deep nesting, and bombs of aliases."""
    with reading(file, what, advice=""):
        check("yaml_bytes", len(text), f"{len(text)} letters")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _weight(node, {}, set())
            return loader.construct_document(node)
        except yaml.YAMLError as error:
            raise InputError(f"not {what}: {yaml_problem(error)}") from error
        finally:
            loader.dispose()


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "no value"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else str(problem)


def read_yaml(path: str | os.PathLike[str], what: str = "YAML") -> Any:
    """A YAML file. Raises FileNotFoundError, InputError."""
    return parse_yaml(read_text(path, "yaml_bytes"), path, what)


def read_xml(path: str | os.PathLike[str]) -> ElementTree.Element:
    """The root of an XML file, in whatever encoding it declares. Raises FileNotFoundError, InputError."""
    data = read_data(path)
    with reading(path, "XML", advice=_EXPORT):
        declared = re.match(rb"\s*<\?xml[^>]*encoding=[\"']([\w.:-]+)[\"']", data[:200])
        encoding = declared[1].decode("ascii").lower() if declared else "utf-8"
        if not codecs.lookup(encoding)._is_text_encoding:
            raise InputError(f"its encoding {encoding!r} is none of text", advice="save it as UTF-8")
        return parse_xml(data.decode(encoding_of(data) if encoding.startswith("utf") else encoding), path)


def parse_xml(text: str, file: object = "") -> ElementTree.Element:
    """The root of XML. Raises InputError for what is none, or is nested too deeply.

    Entities of its own are refused: no label tool writes any, and bombs are made of them.
    """
    with reading(file, "XML", advice=_EXPORT if file else ""):
        if "<!ENTITY" in text:
            raise InputError("it declares entities, which are not read", advice="save it without <!ENTITY ...>")
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
        _check_tree(root)
        return root


def _check_tree(root: ElementTree.Element) -> None:
    level, depth = [root], 0
    while level := [child for element in level for child in element]:
        depth += 1
        check("depth", depth, "it is nested too deeply")
