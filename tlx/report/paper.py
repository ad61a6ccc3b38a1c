"""What the paper found, for the page to put beside what was measured.

B. Neyshabur, H. Sedghi, C. Zhang, "What is being transferred in transfer learning?",
NeurIPS 2020, arXiv 2008.11687. Only what its figures and tables show or its text says;
numbers read off a figure are marked as such.
"""

from __future__ import annotations

from typing import NamedTuple

from tlx.report.table import Table

CITATION = (
    "B. Neyshabur, H. Sedghi, C. Zhang. What is being transferred in transfer learning? "
    "NeurIPS 2020. arXiv 2008.11687."
)


class Finding(NamedTuple):
    """What the paper reports about one question: where, in words, and its numbers."""

    source: str
    text: str
    table: Table | None = None


_SHUFFLE = Table(
    ("relative drop, %", "∗", "1", "2", "4", "8", "16", "32", "whole"),
    (
        ("quickdraw", "91", "69", "30", "23", "23", "20", "18", "22"),
        ("clipart", "33", "22", "23", "22", "33", "41", "45", "40"),
        ("real", "16", "9", "3", "12", "34", "45", "45", "42"),
    ),
)

_STARTS = Table(
    ("test accuracy, epoch", "0", "1", "2", "5", "10", "30", "31", "59", "61", "90"),
    (
        ("real", "61.3", "61.8", "64.1", "69.6", "73.5", "76.5", "76.8", "78.4", "78.4", "78.4"),
        ("clipart", "<60", "<60", "61.0", "67.1", "70.6", "72.9", "72.9", "74.2", "74.2", "74.0"),
        (
            "quickdraw", "64.3", "64.7", "64.9", "66.1", "66.8", "66.8", "66.9", "67.2", "67.3",
            "66.9",
        ),
    ),
)  # fmt: skip

_SIMILARITY = Table(
    ("CKA", "conv1", "layer1", "layer2", "layer3", "layer4"),
    (
        ("P-T & P", "0.6225", "0.4592", "0.2896", "0.1877", "0.0453"),
        ("P-T & P-T", "0.6710", "0.8230", "0.6052", "0.4089", "0.1628"),
        ("P-T & RI-T", "0.0036", "0.0011", "0.0022", "0.0003", "0.0808"),
        ("RI-T & RI-T", "0.0016", "0.0088", "0.0004", "0.0004", "0.0424"),
    ),
)

_DISTANCES = Table(
    ("l2 distance", "2 P-T", "2 RI-T", "P-T & P", "RI-T & P"),
    (
        ("CheXpert", "200.12", "255.34", "237.31", "598.19"),
        ("clipart", "178.07", "822.43", "157.19", "811.87"),
        ("quickdraw", "218.52", "776.76", "195.44", "785.22"),
        ("real", "193.45", "815.08", "164.83", "796.80"),
    ),
)

_BASINS = Table(
    ("two P-T", "ε", "δ"),
    (
        ("real", "0.0038", "49.14"),
        ("clipart", "0.0054", "98.28"),
        ("quickdraw", "0.0034", "49.14"),
    ),
)

FINDINGS = {
    "curves": Finding(
        "Figure 2",
        "P-T ends above RI-T on every target: 78.4 against 61.5 on real, 74.2 against 58 on "
        "clipart and 67 against 64 on quickdraw (final test accuracy, the best of the curves "
        "shown, read off the figure to about ±0.5). On CheXpert the AUC peaks at .787 against "
        ".770, and every run over-fits after its peak.",
    ),
    "shuffle": Finding(
        "Figure 3",
        "Feature reuse is very important, especially where the target resembles the source. "
        "What survives shuffling, the low-level statistics, still helps, especially the speed "
        "of optimisation. The relative drops printed in the figure, by block size (∗ permutes "
        "all values, across channels):",
        _SHUFFLE,
    ),
    "amount": Finding(
        "in its text and Figure 3",
        "Feature reuse is very important, especially where the target resembles the source. The "
        "relative drop from P-T to RI-T on whole images is printed as 42 on real, 40 on clipart "
        "and 22 on quickdraw. This page has no numbers of the paper's about other amounts of "
        "data, or about distances between domains.",
    ),
    "starts": Finding(
        "Figure 7",
        "Fine-tuning from earlier checkpoints of the pretraining loses no accuracy, down to some "
        "epoch: on real, epoch 59 of 90 gives what epoch 90 does. The text says that early "
        "checkpoints lie outside the basin of the converged model, that training enters it at "
        "some point, and that improvements in speed and in final performance are independent. "
        "Read off the figure, to about ±0.2:",
        _STARTS,
    ),
    "barrier": Finding(
        "Figure 4",
        "No barrier between two P-T: the points between them are even slightly better than the "
        "ends. A barrier between RI-T, even where they start from the same random weights. Read "
        "off the figure, test accuracy: on real, two P-T have 78.4 at the ends and 79.3 in the "
        "middle; between two RI-T it falls from 61 to below 1, and between P-T and RI-T too.",
    ),
    "landscape": Finding(
        "Definition 3.1 and its text",
        "Two P-T live in one basin of the loss, two RI-T do not. Extrapolating beyond the line "
        "between two P-T gave the (ε, δ) below; in the network of the released code, of 24.2 "
        "million parameters, δ / √dim is then 0.01, 0.02 and 0.01.",
        _BASINS,
    ),
    "similarity": Finding(
        "Table 1",
        "Two P-T are highly similar across layers; P-T and RI-T, and two RI-T, are very little "
        "so. CKA of ResNet-50s on CheXpert:",
        _SIMILARITY,
    ),
    "depth": Finding(
        "in its conclusion and a review",
        "A review lists the spectrum of the modules among the paper's experiments, and its "
        "conclusion proposes the top singular values and directions of each module as a start "
        "for training. This page has no numbers of the paper's about them.",
    ),
    "modules": Finding(
        "Figures 5 and 6",
        "One module at a time set back to checkpoint 0 on CheXpert, test AUC, read off the figure "
        "to about ±.005: P-T, .734 as trained, falls to .693 with the fully connected layer set "
        "back and stays at .710 or above with any other; RI-T falls from .704 to .507 with conv1 "
        "(learning rate .02), and from .702 to .543 with the first block of stage 3 and .562 with "
        "conv1 (.1). The only difference to the supervised case, its text says, is that the fully "
        "connected layer becomes critical for P-T, which is expected. In noise and on the way to "
        "its start, conv1 of P-T stays in a valley of even width; that of RI-T leaves it before "
        "the start, on both paths.",
    ),
    "distances": Finding(
        "Table 2",
        "Two RI-T are farther from each other than two P-T, and the distance of a module grows "
        "towards the higher layers. Distances of the entire network:",
        _DISTANCES,
    ),
    "mistakes": Finding(
        "in its text",
        "Two P-T make very similar mistakes, two RI-T more diverse ones. Images that P-T gets "
        "wrong and RI-T right are mostly hard or ambiguous; those that P-T gets right and RI-T "
        "wrong are mostly easy.",
    ),
}
