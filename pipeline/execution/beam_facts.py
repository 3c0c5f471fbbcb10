"""Read the graph of a job as Beam would send it to a runner: its size, its transforms, and what it shuffles."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from openwit.pipeline.execution import beam_quiet  # noqa: F401

# isort: split
import apache_beam as beam
from apache_beam.portability import common_urns
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import DockerEnvironment

_GROUP = common_urns.primitives.GROUP_BY_KEY.urn
_CODERS = {
    common_urns.coders.KV.urn: "KV",
    common_urns.coders.VARINT.urn: "int",
    common_urns.coders.BYTES.urn: "bytes",
    common_urns.coders.STRING_UTF8.urn: "str",
    common_urns.coders.ITERABLE.urn: "list",
}


class Shuffle(NamedTuple):
    """A GroupByKey of a graph.

    Attributes:
        name: of the transform.
        elements: type of what it groups, such as `KV[int, bytes]`; `pickled` for what Beam does not know.
    """

    name: str
    elements: str


class GraphFacts(NamedTuple):
    """What is in a graph.

    Attributes:
        bytes: that are sent to the runner.
        transforms: without the composite ones.
        shuffles: in order of name.
    """

    bytes: int
    transforms: int
    shuffles: list[Shuffle]


def measure_graph(options: Any, construct: Callable[[Any], None]) -> GraphFacts:
    """Build a graph and read it; nothing runs, and the runner of the options need not be installed.

    Args:
        options: of Beam.
        construct: adds the steps to a pipeline.
    """
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)
    construct(pipeline)
    environment = DockerEnvironment.from_container_image("registry/openwit-worker")
    return read_graph(pipeline.to_runner_api(default_environment=environment))


def read_graph(proto: Any) -> GraphFacts:
    """Read a graph from Beam's message of a pipeline."""
    parts = proto.components
    leaves = [each for each in parts.transforms.values() if not each.subtransforms and each.spec.urn]
    shuffles = [
        Shuffle(each.unique_name, _coder(parts, parts.pcollections[source].coder_id))
        for each in leaves
        if each.spec.urn == _GROUP
        for source in each.inputs.values()
    ]
    return GraphFacts(proto.ByteSize(), len(leaves), sorted(shuffles))


def _coder(parts: Any, identifier: str) -> str:
    coder = parts.coders[identifier]
    name = _CODERS.get(coder.spec.urn, "pickled")
    inner = [_coder(parts, each) for each in coder.component_coder_ids]
    return f"{name}[{', '.join(inner)}]" if inner else name


def untyped(facts: GraphFacts) -> Iterator[Shuffle]:
    """Yield the shuffles of rounds whose elements are no (key, blob): Beam would pickle whatever they are."""
    for shuffle in facts.shuffles:
        if shuffle.name.startswith(("Group for ", "Join for ")) and "pickled" in shuffle.elements:
            yield shuffle
