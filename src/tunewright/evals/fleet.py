"""The engines an evaluation speaks to: one on the base, further ones only where an arm cannot run on it."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import BaseModelError
from tunewright.evals.inputs import Inputs
from tunewright.evals.outputs import BASE
from tunewright.ports import BaseFiles, Engine, Ports
from tunewright.records import Arm, BaseModelRef
from tunewright.trees import get_tree, write_tree
from tunewright.values import Digest


@dataclass(frozen=True, slots=True)
class Served:
    """Where an arm is asked."""

    engine: Engine
    model: str
    """What requests name: `base`, or a loaded adapter's digest."""
    identity: str
    """What answers depend on: digests of the weights, whatever engine holds them."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Running engines by arm."""

    served: Mapping[Arm, Served]
    missing: Mapping[Arm, str]
    """Arm -> why it cannot be asked."""
    tree: Mapping[str, bytes]
    """The candidate's files."""


def start_fleet(inputs: Inputs, ports: Ports, stack: ExitStack) -> Fleet:
    """Start the engines of base, candidate and incumbent; the stack stops them.

    Raises:
        EngineFailed, BlobMissing, BlobCorrupt, BaseMismatch: the base or the candidate cannot be served.
    """
    engine = stack.enter_context(ports.engines.start(inputs.base.folder))
    on_base = Served(engine, BASE, inputs.base.ref.digest)
    tree = get_tree(ports.blobs, inputs.run.candidate)
    served: dict[Arm, Served] = {"base": on_base, "few_shot": on_base}
    served["candidate"] = _serve(
        inputs.run.candidate, tree, inputs.run.method, (inputs.base, engine), ports, stack
    )
    missing: dict[Arm, str] = {}
    if inputs.incumbent is None:
        missing["incumbent"] = "there is no champion yet, so there is nothing to compare with"
    else:
        found = _serve_incumbent(inputs, engine, ports, stack)
        if isinstance(found, str):
            missing["incumbent"] = found
        else:
            served["incumbent"] = found
    return Fleet(served, missing, tree)


def _serve_incumbent(inputs: Inputs, engine: Engine, ports: Ports, stack: ExitStack) -> Served | str:
    """Serve the champion, on a base of its own where it has another; or say why that is impossible."""
    assert inputs.incumbent is not None  # the caller has looked
    model, run = inputs.incumbent.model, inputs.incumbent.run
    tree = get_tree(ports.blobs, model.adapter)
    if model.base.digest == inputs.base.ref.digest:
        return _serve(model.adapter, tree, run.method, (inputs.base, engine), ports, stack)
    base = _find_base(model.base, ports)
    if isinstance(base, str):
        return f"{model.ref} is the champion, but {base}"
    other = stack.enter_context(ports.engines.start(base.folder)) if run.method == "lora" else engine
    return _serve(model.adapter, tree, run.method, (base, other), ports, stack)


def _find_base(ref: BaseModelRef, ports: Ports) -> BaseFiles | str:
    try:
        base = ports.bases.resolve(ref.name)
    except BaseModelError as error:
        return f"its base cannot be used: {error}"
    if base.ref.digest != ref.digest:
        return f"its base {ref.name} has changed on this machine"
    return base


def _serve(
    digest: Digest,
    tree: Mapping[str, bytes],
    method: str,
    on: tuple[BaseFiles, Engine],
    ports: Ports,
    stack: ExitStack,
) -> Served:
    """Load an adapter onto a running base, or start an engine on a fully tuned model."""
    base, engine = on
    if method == "lora":
        engine.load_adapter(digest, tree)
        return Served(engine, digest, f"{base.ref.digest}+{digest}")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunewright-full-")))
    write_tree(folder, tree, base)
    return Served(stack.enter_context(ports.engines.start(folder)), BASE, digest)
