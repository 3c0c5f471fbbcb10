"""Probe features linearly, as the paper's appendix A.3 does: logistic regression with a swept penalty."""

from openwit.training.evaluation.probe.fit import Probe, estimate, fit_probe, held_out
from openwit.training.evaluation.probe.solver import Head, Solver, fit_head
from openwit.training.evaluation.probe.sweep import GRID, Sweep, search_penalty

__all__ = [
    "GRID",
    "Head",
    "Probe",
    "Solver",
    "Sweep",
    "estimate",
    "fit_head",
    "fit_probe",
    "held_out",
    "search_penalty",
]
