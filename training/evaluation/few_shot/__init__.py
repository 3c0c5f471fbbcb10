"""Measure probes of a few images per class, beside zero-shot classification (paper section 3.1.5)."""

from openwit.training.evaluation.few_shot.curve import SHOTS, FewShot, Shots, draw_shots, few_shot

__all__ = ["SHOTS", "FewShot", "Shots", "draw_shots", "few_shot"]
