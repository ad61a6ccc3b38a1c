"""The page's sections: question, answer, figure, what was measured, the paper, how."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

from tlx.records import Record
from tlx.report import answers, measures_modules, tables, verdicts
from tlx.report.captions import CAPTIONS
from tlx.report.drawing import svg
from tlx.report.figures import PANELS
from tlx.report.measures_similarity import LEAST_Z
from tlx.report.numbers import NO_DATA
from tlx.report.paper import FINDINGS, Finding
from tlx.report.table import Table, unbroken

HOW = {
    "curves": (
        "P-T starts from the pretrained weights with a new head, RI-T from random ones. After a "
        "number of steps the model is evaluated on all test images of the target, without "
        "augmentation. The final accuracy is the one after the last step; no step is chosen by "
        "its test accuracy. ± is one binomial standard error, √(p(1−p)/n) for n images; averaging "
        "runs does not lessen it, because they are tested on the same images. “Higher” means by "
        "more than two standard errors of the difference. The average training accuracy is the "
        "area under the curve of training accuracy (all training images, evaluation mode) "
        "against the step, divided by the number of steps; n is then the training images."
    ),
    "shuffle": (
        "An image is cut into square blocks, and the blocks are put in another order: one fixed "
        "permutation for all images, training and test alike. Models are trained on the target "
        "as before. The faster a model learns, the larger is its average training accuracy "
        "(the area under its curve against the step, divided by the number of steps). The "
        "relative drop is (P-T − RI-T) / P-T of the final test accuracies, its ± by first-order "
        "propagation of their binomial errors."
    ),
    "barrier": (
        "All parameters, the head included, are interpolated linearly, θ = (1−α)·θ₁ + α·θ₂, and "
        "accuracy and loss are evaluated on all test images at each α. The dip is the largest "
        "difference between the chord, the straight line between the two end accuracies, and "
        "the accuracy; the loss barrier is the largest rise of the loss above its chord "
        "(kind “chord”), or above the mean of the two ends (kind “endpoint mean”). A pair is said "
        "to have no barrier where the dip is at most two standard errors and the rise of the "
        f"loss at most {verdicts.LOSS_TOLERANCE} nats. Intervals in brackets are percentiles of "
        "the bootstrap over test images, the same resample for every point of a line; for "
        "several pairs of a kind, tested on the same images, they go from the mean of the lower "
        "to the mean of the upper ends. Batch statistics, where a model has them, belong to one "
        "set of weights: “re-estimated” says that they were estimated anew from training images "
        "at each α, “interpolated” that they were mixed like the weights, “a” or “b” that they "
        "are those of one end."
    ),
    "landscape": (
        "A plane is that through three models in parameter space, in an orthonormal basis: the "
        "first model is the origin, the second lies on the first axis. Every point of the grid "
        "is evaluated on all test images.\n\n"
        "Two models share a basin if the 0-1 error rises above the chord, on the line between "
        "them, by no more than what is allowed: “yes” or “no” where the bootstrap interval over "
        "test images lies on one side of that, “open” where it does not.\n\n"
        "A convex set, here the line between two models, is an (ε, δ)-basin of a loss l with mean "
        "μ over the set (definition 3.1 of the paper) if 1. the mean of |l − μ| is at most ε; "
        "2. Gaussian noise of expected squared length δ² at the border raises l to 2ε above μ or "
        "more; 3. so does a step of length |N(0, δ²)| straight out of the set. Here ε is that "
        "mean, and δ the smallest of a scan at which both rises reach 2ε; ± is one standard error "
        "over the draws. l is the 0-1 error unless the axis says nats. δ / √dim, with dim the "
        "number of parameters, is the standard deviation of the noise in each of them.\n\n"
        "Hidden units can change places without changing what a net computes. The units of the "
        "second of two RI-T are put in the order of the first's, by the weights or by the "
        "activations that match best (Ainsworth et al. 2023), and the activations of the models "
        "between are renormalised to the means and spreads of the ends' (REPAIR, Jordan et al. "
        "2023). This and the planes are this study's addition."
    ),
    "similarity": (
        "Linear CKA (Kornblith et al. 2019) between the features of two models on the same test "
        "images: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) with centred, flattened features. The debiased estimator "
        "(Székely and Rizzo 2014; Song et al. 2012) is 0 in expectation for independent "
        "features, whatever their number, and can be negative; the biased one is not, and is "
        "large where features are many and images few: what it gives on average where each image "
        "of one model is paired with a random one of the other is its chance level. z is the "
        "debiased value over its standard deviation under such pairing, which has a closed form. "
        "The mean is over the layers that both models have. Layer s.b is block b of stage s.\n\n"
        "An interval is from the bootstrap over test images, the same resamples for every pair; "
        "that of a mean over layers, or over pairs, goes from the mean of the lower to the mean "
        "of the upper ends. It says how well the value of these models is known, not how much "
        "other runs would differ. One value is said to be higher than another where their "
        "intervals do not overlap, and where there are no intervals, where it is greater.\n\n"
        "On shuffled images, two models of a pair are trained and compared on images shuffled "
        "alike; P, which was trained on whole images, is then given the shuffled ones too. Over "
        "the training, a run is compared with P at each of its checkpoints; at step 0 a P-T has "
        "the weights of P except in its head. The paper reports neither: they are this study's "
        "addition, and “as in the paper” says of shuffled images that the order is that of the "
        "paper's table."
    ),
    "depth": (
        "A probe is a linear classifier on the features of one layer (Alain and Bengio 2016), "
        "here a ridge regression on the one-hot classes of the target's training images, its "
        "strength chosen by generalised cross-validation on those images; the class is that of "
        "the largest output. Its accuracy is that on the test images, in brackets its 95% "
        "interval (Wilson). One model is said to be better than another where their intervals "
        "do not overlap; the intervals of the gain over random weights are Newcombe's (1998). "
        "RI is a net before training; layer s.b is block b of stage s.\n\n"
        "Partial transfer follows Yosinski et al. (2014): a run starts with the first k modules "
        "of P's body, or with all but those, and with fresh weights in the others; the modules "
        "from P are then trained with the rest, or frozen. The first k are said to be enough "
        "where no run with k or more of them that was tried ends more than two standard errors "
        "of the difference below P-T.\n\n"
        "The singular values of a convolution are those of the linear map of whole feature maps "
        "with their borders joined and stride 1 (Sedghi et al. 2019), or of what the caption "
        "says. The stable rank is the sum of the squares of the values over the largest "
        "square."
    ),
    "modules": (
        "One module at a time is set back to its weights at a checkpoint of the same run, the "
        "others stay as trained (Zhang et al. 2019), and the network is evaluated on all test "
        "images. Both networks see the same images, but it is not recorded on which they differ: "
        "± is the largest standard error of the difference that their accuracies allow. P-T is "
        "said to do without a module's training where it loses at most a point without it, or no "
        "more than two standard errors and the module's criticality is 0. Block s.b is block b of "
        "stage s.\n\n"
        "The criticality μ of a module is the least (distance / σ)² over a grid of places θ(α) on "
        "a path from its start to its trained weights and of noise N(0, σ²) on each weight, σ "
        "above 0, at which the mean 0-1 error on the training images stays within the threshold "
        "(Chatterji et al. 2020, definition 3.1); the distance is ‖θ(α) − θ(0)‖. It is 0 where "
        "the module can stay at its start, ∞ where no point of the grid is within the threshold, "
        "and a finer grid can only lower it; a network's is the sum over its modules. The "
        "straight path is the paper's direct one; the other, its optimisation path, goes through "
        "the checkpoints. The bound on the expected error of the network with that noise in all "
        "its modules holds with the start as the prior's mean; of "
        f"{measures_modules.SAYS_NOTHING} and more it is said to say nothing, as where a "
        "criticality is ∞ or the model has batch statistics.\n\n"
        "A module's movement is the difference of its trained weights from its start, its path "
        "the sum of the differences from checkpoint to checkpoint. z is the cosine of two "
        "movements over its standard deviation for random directions, √(1/k) with k weights; "
        f"“‡” marks z below {LEAST_Z:g}. Gradients fill few directions, so that runs that have "
        "nothing else in common may have a large z."
    ),
    "distances": (
        "The l2 norm of the difference of two models' parameters, module by module; relative "
        "distances are divided by the norms of the modules. Two totals are given: the l2 norm "
        "over all parameters at once, and the sum over tensors of the l2 norm of each."
    ),
    "agreement": (
        "For two models tested on the same images we count those that both get wrong, that only "
        "the first or only the second gets wrong, and that neither does, class by class. Shared "
        "mistakes are the first count over the first three. Cohen's kappa compares the observed "
        "agreement (both right or both wrong) with the one expected of two independent models of "
        "the same accuracies: 1 is the same mistakes, 0 is chance. Kappa and its ± (large-sample, "
        "chance agreement held fixed) are this study's addition."
    ),
}


_KIND = re.compile(r"(?<![\w-])(P-T|RI-T|P)(?![\w-])")


def prose(text: str) -> str:
    """Returns text as HTML: the kinds of model in their colours, a number kept on one line."""
    escaped = unbroken(html.escape(text.replace("'", "’"), quote=False))
    return _KIND.sub(lambda m: f'<span class="{m[1].lower()}">{m[1]}</span>', escaped)


# The figures of a section, each with its caption and table, where it has not just its own:
# first what the paper has too, then the study's additions, under their own headings.
PARTS = {
    "landscape": ("landscape", "permutation"),
    "similarity": ("similarity", "similarity_shuffled", "similarity_trajectory"),
    "depth": ("probes", "partial_transfer", "spectra"),
    "modules": ("rewinding", "criticality", "movement"),
}
ADDITIONS = {
    "permutation": "With the units in one order",
    "similarity_shuffled": "On shuffled images",
    "similarity_trajectory": "Over the training",
    "probes": "What a linear map reads from each layer",
    "partial_transfer": "Starting from some of the modules",
    "movement": "How the modules moved",
}
HEADINGS = {**ADDITIONS, "spectra": "The singular values of the layers"}


class Part(NamedTuple):
    """A figure with what stands under it, ready to be set; without data no pictures."""

    name: str
    pictures: tuple[str, ...]
    caption: str
    table: Table | None


class Section(NamedTuple):
    """A section of the page, ready to be set."""

    name: str
    title: str
    answer: verdicts.Answer
    parts: tuple[Part, ...]

    @property
    def num_figures(self) -> int:
        """How many figures it has."""
        return sum(bool(part.pictures) for part in self.parts)


def make(name: str, records: Sequence[Record]) -> Section:
    """Returns a section from a study's records; without data it has no pictures."""
    return Section(
        name,
        tables.TITLES[name],
        answers.QUESTIONS[name](records),
        tuple(_part(part, records) for part in PARTS.get(name, (name,))),
    )


def _part(name: str, records: Sequence[Record]) -> Part:
    panels = PANELS[name](records)
    return Part(
        name,
        tuple(svg(panel, f"{name}-{panel.name}") for panel in panels),
        CAPTIONS[name](records) if panels else "",
        tables.TABLES[name](records) if name in tables.TABLES else None,
    )


def render(section: Section, number: int) -> str:
    """Returns the section as HTML, its figures numbered from ``number``."""
    finding = FINDINGS[section.name]
    answer = section.answer.sentence or f"{NO_DATA.capitalize()}: this has not been measured yet."
    parts = [
        f'<section id="{section.name}">',
        f"<h2>{html.escape(section.title)}</h2>",
        f'<p class="answer">{prose(answer)}</p>',
    ]
    own = [part.name for part in section.parts if part.name not in ADDITIONS]
    for part in section.parts:
        if part.name in HEADINGS and (part.pictures or part.table):
            where = " <small>not in the paper</small>" if part.name in ADDITIONS else ""
            parts.append(f"<h3>{HEADINGS[part.name]}{where}</h3>")
        if part.pictures:
            parts.append(_figure(part, number))
            number += 1
        if part.table:
            heading = "" if part.name in ADDITIONS else "<h3>Measured here</h3>"
            parts += [heading, part.table.html(f"of-{part.name}")]
        if part.name == own[-1]:
            parts += _in_the_paper(finding)
    parts += [_checks(section.answer.checks), _how(section.name), "</section>"]
    return "\n".join(part for part in parts if part)


def _in_the_paper(finding: Finding) -> list[str]:
    heading = f"<h3>In the paper <small>{html.escape(finding.source)}</small></h3>"
    table = finding.table.html() if finding.table else ""
    return [heading, f"<p>{prose(finding.text)}</p>", table]


def _figure(part: Part, number: int) -> str:
    panels = "\n".join(f'<div class="panel">{p}</div>' for p in part.pictures)
    return (
        f'<figure id="figure-{number}">\n<div class="panels">\n{panels}\n</div>\n'
        f"<figcaption><b>Figure {number}.</b> {prose(part.caption)}</figcaption>\n"
        "</figure>"
    )


def _checks(checks: Sequence[verdicts.Check]) -> str:
    if not checks:
        return ""
    mark = {verdicts.AGREES: "agrees", verdicts.DIFFERS: "differs", verdicts.OPEN: "open"}
    items = "".join(
        f'<li class="{mark[c.verdict]}">{prose(c.claim[0].upper() + c.claim[1:])}: '
        f"<b>{html.escape(c.verdict)}</b></li>"
        for c in checks
        if c.verdict
    )
    return f'<ul class="checks">{items}</ul>'


def _how(name: str) -> str:
    paragraphs = "".join(f"<p>{prose(part)}</p>" for part in HOW[name].split("\n\n"))
    return f"<details><summary>How it was computed</summary>{paragraphs}</details>"
