"""Telling the language of a text, by an optional library that works offline."""

import importlib
from collections.abc import Callable

from tunewright.errors import RecipeError


def load_identifier() -> Callable[[str], str]:
    """Return a function from text to ISO 639-1 code.

    Raises:
        RecipeError: the recipe asks for languages and the optional library is not installed.
    """
    try:
        library = importlib.import_module("py3langid")
    except ModuleNotFoundError as error:
        raise RecipeError(
            "data.quality.languages needs the language extra, which is not installed. Install it with "
            "`pip install tunewright[language]`, or remove the key."
        ) from error

    def identify(text: str) -> str:
        code, _ = library.classify(text)  # the library ships no types
        return str(code)

    return identify
