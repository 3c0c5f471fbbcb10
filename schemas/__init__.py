"""The ground floor: what the dataset wing (`pipeline`) and the model wing (`training`) agree on.

Arrow schemas of every table that crosses a stage, the dataset manifest, and the few small things both wings
need in one form (typed settings, atomic files, the error a user sees). Imports neither Beam nor torch.
"""
