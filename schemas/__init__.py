"""The ground floor: what the dataset wing (`pipeline`) and the model wing (`training`) agree on.

Arrow schemas of every table that crosses a stage, the dataset manifest, and the few small things that both wings
share (typed settings, atomic files, the errors that a user sees). Imports neither Beam nor torch.
"""
