"""Tunewright: a governed model factory. Curate, train, gate, register, deploy, learn."""

from importlib.metadata import version

from tunewright.errors import TunewrightError
from tunewright.recipe import Recipe
from tunewright.values import Digest, Ref

__version__ = version("tunewright")

__all__ = ["Digest", "Recipe", "Ref", "TunewrightError", "__version__"]
