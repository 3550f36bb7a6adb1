"""The papers that the methods are from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    arxiv: str
    year: int


MELLER = Paper(
    "Same, Same But Different - Recovering Neural Network Quantization Error", "1902.01917", 2019
)
BIAS = Paper("Fighting Quantization Bias With Bias", "1906.03193", 2019)
DFQ = Paper(
    "Data-Free Quantization through Weight Equalization and Bias Correction", "1906.04721", 2019
)
APOT = Paper(
    "Additive Powers-of-Two Quantization: "
    "An Efficient Non-uniform Discretization for Neural Networks",
    "1909.13144",
    2020,
)
ADAROUND = Paper("Up or Down? Adaptive Rounding for Post-Training Quantization", "2004.10568", 2020)
# ICML 2021; on arXiv, a year before, "Improving Post Training Neural Quantization: Layer-wise
# Calibration and Integer Programming"
ADAQUANT = Paper(
    "Accurate Post Training Quantization With Small Calibration Sets", "2006.10518", 2021
)
BRECQ = Paper(
    "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction",
    "2102.05426",
    2021,
)
QDROP = Paper(
    "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization",
    "2203.05740",
    2022,
)
