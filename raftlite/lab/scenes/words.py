"""The words of the scenes. They live in text/<language>.json, so that a translation is one file more and no code."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Dict, List

from raftlite.errors import ConfigError

Text = Dict[str, Any]


def languages() -> List[str]:
    """The languages that there are."""
    names = (entry.name for entry in _folder().iterdir())
    return sorted(name[: -len(".json")] for name in names if name.endswith(".json"))


def text(language: str = "en") -> Text:
    """All words of all scenes. Raises `ConfigError` for a language that there is not. Do not change what it returns."""
    if language not in languages():
        raise ConfigError(f"language is {language!r}, but must be one of {', '.join(languages())}")
    return _read(language)


@cache
def _read(language: str) -> Text:
    words: Text = json.loads((_folder() / f"{language}.json").read_text(encoding="utf-8"))
    return words


def _folder() -> Any:
    return resources.files("raftlite.lab.scenes") / "text"


def check_words(words: Text, scene: str, name: str) -> str:
    """What is said of a check: the scene's own words, or those that all scenes share."""
    own = words["scenes"][scene]["checks"]
    return str(own[name] if name in own else words["checks"][name])


def why_words(words: Text, why: str, values: Dict[str, Any]) -> str:
    """The sentence `why` with these values; empty for no reason."""
    return str(words["whys"][why]).format(**values) if why else ""
