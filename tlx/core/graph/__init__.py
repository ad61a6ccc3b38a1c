"""A model as a graph of operations on named leaves, and what can be read from it."""

from tlx.core.graph.tracing import (
    Graph,
    Hook,
    Op,
    Var,
    bodies,
    dependent,
    done,
    is_literal,
    order_with,
    run,
    shape,
    trace,
)

__all__ = [
    "Graph",
    "Hook",
    "Op",
    "Var",
    "bodies",
    "dependent",
    "done",
    "is_literal",
    "order_with",
    "run",
    "shape",
    "trace",
]
