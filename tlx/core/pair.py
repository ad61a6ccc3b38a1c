"""Two functions of two models as one, so that both are evaluated in one pass."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tlx.core import public

__dir__ = public.names(__name__)


@dataclasses.dataclass(frozen=True)
class Pair:
    """`((params_a, params_b), inputs) -> (fn_a(params_a, inputs), fn_b(params_b, inputs))`.

    Equal for equal functions, so that compiled code is reused.
    """

    fn_a: Callable[[Any, Any], Any]
    fn_b: Callable[[Any, Any], Any]

    def __call__(self, params: tuple[Any, Any], inputs: Any) -> tuple[Any, Any]:
        """Both outputs."""
        return self.fn_a(params[0], inputs), self.fn_b(params[1], inputs)
