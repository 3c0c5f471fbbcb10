"""Compute what a training step needs in memory, from a model's sizes, before anything runs.

Counted are the tensors that autograd keeps for the backward pass (activations), weights with gradients and AdamW's
moments, the batch as bytes, and the embeddings; not what kernels use for a moment, nor the allocator's fragments:
leave a tenth. Tests compare the activations with what autograd keeps.
"""

from dataclasses import dataclass

from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec

_FLOAT = 4


@dataclass(frozen=True)
class StepMemory:
    """Bytes on the device of one process.

    Attributes:
        weights: weights, gradients, AdamW's two moments, and the moving average if there is one; float32.
        activations: kept between the forward and the backward pass of a chunk.
        batch: images of the process's part, as bytes, and the chunk that is normalised.
        embeddings: of the whole batch, and the gradients of this process's.
    """

    weights: int
    activations: int
    batch: int
    embeddings: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.weights + self.activations + self.batch + self.embeddings


def step_memory(
    spec: ClipSpec,
    *,
    batch: int,
    chunk: int | None = None,
    parameters: int,
    processes: int = 1,
    lowered: bool = True,
    recompute: bool = False,
    sharded: bool = False,
    ema: bool = False,
) -> StepMemory:
    """Return what a step needs.

    Args:
        spec: sizes of the model.
        batch: samples of all processes.
        chunk: `memory.chunk`; None: the whole part of a process.
        parameters: of the model.
        processes: that share the batch.
        lowered: towers in 16 bits.
        recompute: `memory.checkpoint_activations`.
        sharded: `distributed.strategy: fsdp`.
        ema: `ema.decay` is set.
    """
    own = -(-batch // processes)
    size = own if chunk is None else min(chunk, own)
    copies = 4 + int(ema)
    pixels = 3 * spec.vision.image_size**2
    images = own * pixels + size * pixels * _FLOAT
    per_sample = image_activations(spec, lowered=lowered, recompute=recompute) + text_activations(
        spec.text, lowered=lowered, recompute=recompute
    )
    embeddings = 2 * spec.embed_dim * _FLOAT * (batch + own)
    return StepMemory(
        weights=_FLOAT * copies * parameters // (processes if sharded else 1),
        activations=size * per_sample,
        batch=images,
        embeddings=embeddings,
    )


def image_activations(spec: ClipSpec, *, lowered: bool, recompute: bool) -> int:
    """Return the bytes that autograd keeps of one image."""
    vision = spec.vision
    if isinstance(vision, ResNetSpec):
        return _resnet(vision, lowered=lowered, recompute=recompute)
    return _patches(vision, lowered=lowered) + _transformer(
        vision.width, vision.layers, vision.patches + 1, lowered=lowered, recompute=recompute
    )


def text_activations(spec: TextSpec, *, lowered: bool, recompute: bool) -> int:
    """Return the bytes that autograd keeps of one text of the whole context."""
    return _transformer(spec.width, spec.layers, spec.context_length, lowered=lowered, recompute=recompute)


def _patches(vision: VisionSpec, *, lowered: bool) -> int:
    # The input of the patches' convolution, the patches, and the input and output of the first normalisation.
    low = 2 if lowered else _FLOAT
    tokens = (vision.patches + 1) * vision.width
    return 3 * vision.image_size**2 * low + 2 * tokens * _FLOAT


def _transformer(width: int, layers: int, tokens: int, *, lowered: bool, recompute: bool) -> int:
    """Count a stack of blocks.

    A block keeps, in units of tokens x width: in float32 the two inputs of the normalisations; in the precision of the
    towers their two results, query, key and value (3), attention's result, merged and as the kernel wrote it (1), the
    hidden layer before (4) and after (4) its activation. Computed again, all but one keep their input only.
    """
    low = 2 if lowered else _FLOAT
    unit = tokens * width
    block = unit * (2 * _FLOAT + (2 + 3 + 1 + 8) * low)
    if recompute:
        return layers * unit * _FLOAT + block
    return layers * block


def _resnet(vision: ResNetSpec, *, lowered: bool, recompute: bool) -> int:
    """Count a ResNet: of each convolution its input and of each normalisation its input; rectifiers work in place."""
    low = 2 if lowered else _FLOAT
    half, width = vision.width // 2, vision.width
    side = vision.image_size // 2
    stem = 3 * vision.image_size**2 + side**2 * (2 * half + 2 * half + 2 * width)
    side //= 2
    kept, inputs, largest, before = 0, 0, 0, width
    for stage, blocks in enumerate(vision.layers):
        inner, after = width << stage, 4 * width << stage
        for number in range(blocks):
            shrinks = stage > 0 and number == 0
            outer = side // 2 if shrinks else side
            block = side**2 * (before + 4 * inner) + outer**2 * after
            if shrinks:
                block += outer**2 * (inner + before)
            if before != after or shrinks:
                block += outer**2 * after
            kept, largest = kept + block, max(largest, block)
            inputs += side**2 * before
            before, side = after, outer
    pool = (4 * vision.positions + 4) * vision.channels
    return low * (stem + pool + (inputs + largest if recompute else kept))
