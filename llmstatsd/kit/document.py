"""One file of the kit, and how its content becomes text."""

import json
from typing import Any, NamedTuple

import yaml


class Document(NamedTuple):
    """`path` is relative to the folder of the kit, with slashes; `text` ends with a line end."""

    path: str
    text: str


class _Dumper(yaml.SafeDumper):
    """Writes lists indented under their key, and texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_document(path: str, remark: str, *contents: Any) -> Document:
    """YAML under a remark; several contents become several documents in one file."""
    body = yaml.dump_all(
        contents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000
    )
    return Document(path, f"{remarked(remark)}\n{body}")


def json_document(path: str, content: Any) -> Document:
    """Indented JSON, in the order of the content."""
    return Document(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remarked(remark: str) -> str:
    """Each line of a text as a remark of YAML or of a Dockerfile."""
    return "".join(f"# {line}".rstrip() + "\n" for line in remark.strip().splitlines())
