"""Fine-tuning from some modules of P only: the words of a study for it, and what they mean.

Reference: J. Yosinski, J. Clune, Y. Bengio, H. Lipson, How transferable are features in deep neural
networks?, 2014.
"""

import dataclasses
import re
from typing import NamedTuple

from tlx.train.job import make_module
from tlx.train.spec import HEAD, RunSpec

WORD = re.compile(r"(first|except):(\d+)(:frozen)?")


class Partial(NamedTuple):
    """What a word asks for.

    Attributes:
      modules: those of the body that start from P.
      num_first: k.
      is_first: whether they are the first k; else they are all but those.
      is_frozen: whether they stay as they are.
    """

    modules: tuple[str, ...]
    num_first: int
    is_first: bool
    is_frozen: bool


def parse(word: str, run: RunSpec) -> Partial:
    """What a word asks for in the model of a run.

    Raises:
      ValueError: for another word, or a k above the number of modules.
    """
    body = [name for name in make_module(run).module_names if name != HEAD]
    match = WORD.fullmatch(word)
    if match is None or int(match[2]) > len(body):
        raise ValueError(
            f"expected 'first:k' or 'except:k' with k from 0 to {len(body)} (the modules are "
            f"{', '.join(body)}), and ':frozen' behind it or not, got {word!r}"
        )
    k, is_first = int(match[2]), match[1] == "first"
    return Partial(tuple(body[:k] if is_first else body[k:]), k, is_first, match[3] is not None)


def problems(words: tuple[str, ...], run: RunSpec) -> list[str]:
    """Everything that is wrong with the words of a study."""
    problems = []
    for word in words:
        try:
            parse(word, run)
        except ValueError as error:
            problems.append(str(error))
    if len(set(words)) < len(words):
        problems.append(f"expected each word once, got {words}")
    return problems


def apply(word: str, run: RunSpec) -> RunSpec:
    """The run with what the word asks for; its `init_from` is P's."""
    wanted = parse(word, run)
    assert run.init_from is not None  # the study has set it
    start = dataclasses.replace(run.init_from, modules=wanted.modules)
    freeze = wanted.modules if wanted.is_frozen else ()
    optim = dataclasses.replace(run.optim, freeze=freeze)
    return dataclasses.replace(run, init_from=start, optim=optim)
