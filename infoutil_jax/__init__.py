"""Dataset distillation by informativeness and utility (InfoUtil, ICLR 2026) in JAX and Flax.

The functions below are what most users need. Parts to compose with live in the namespaces beside
them (`from infoutil_jax import recipes`): `recipes`, `attribution`, `cropping`, `scores`,
`features` and `selection`; `shapley` and `gradients` stand alone.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

# The names are in __init__.pyi. Each is imported when it is first asked for: all of them take
# seconds, which a command that only says its --help does not have.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

try:
    __version__ = version("infoutil-jax")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"
