"""Reading YAML with the line of everything, so that each error names its own."""

from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError


class ManifestError(ValueError):
    """A manifest that can't be served: says the file, the line and what was expected there."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        self.path, self.line, self.reason = path, line, reason
        super().__init__(f"{path}:{line}: {reason}")


class _Loader(yaml.SafeLoader):
    """Plain YAML: no aliases, which can be endless or explode, and each key once, as text. Every error has its line."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases aren't read here", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="a key is plain text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value}: given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:
            # PyYAML raises whatever it stumbles upon for values such as `2020-99-99` or `!!int ""`.
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"this is no {kind}: {error}", problem_mark=node.start_mark) from error


def load(path: Path) -> tuple[Any, Any]:
    """Return the file as YAML nodes, which know their lines, and as data. Raises ManifestError."""
    content = b""
    try:
        content = path.read_bytes()
        loader = _Loader(content.decode())
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node else None
    except OSError as error:
        raise ManifestError(path, 1, str(error)) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(path, line, f"not UTF-8: {error.reason}") from error
    except ReaderError as error:
        line = content.decode()[: error.position].count("\n") + 1
        raise ManifestError(path, line, f"character #x{error.character:x}: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(path, mark.line + 1 if mark else 1, error.problem or str(error)) from error
    except RecursionError as error:
        raise ManifestError(path, 1, "nested too deeply") from error


def line_of(node: Any, location: tuple[int | str, ...]) -> int:
    """Return the line of the deepest part of `location` that the file has.

    A missing key has no line of its own, nor has the kind of a step or a calibration, which pydantic puts between.
    """
    line: int = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                continue
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1
