"""After the last attention positions do not meet any more: where only the last one is read, the rest need
not be computed.

Of the last block that is what its heads write and its MLP, nine of twelve parts of its multiplications with
the usual shapes.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from emocircuits.passes.anatomy import Anatomy, Layer
from emocircuits.passes.hooks import hooked


def unwatched(anatomy: Anatomy) -> bool:
    """Whether no hook looks into the last block."""
    block = f"{anatomy.last.rsplit('.', 1)[0]}."
    return not any(
        point.fwd_hooks or point.bwd_hooks for name, point in anatomy.points.items() if name.startswith(block)
    )


def read_at_last_position(anatomy: Anatomy, wanted: bool = True) -> AbstractContextManager[None]:
    """Leaves out what a metric of the last position does not read, unless others look there; to be made
    before hooks are set.
    """
    if not wanted or not unwatched(anatomy):
        return nullcontext()
    return last_position_after_attention(anatomy, anatomy.layers[-1])


@contextmanager
def last_position_after_attention(anatomy: Anatomy, layer: Layer) -> Iterator[None]:
    """Inside this context what the last block adds to the stream is computed at the last position alone, and
    is nothing elsewhere.

    Hooks that are set before see whole values at `hook_z` and at the entry of the MLP, and zeros before
    the last position in what attention and MLP add.

    Args:
        anatomy: the model.
        layer: its last block.
    """
    length: list[int] = []
    ends, cuts = [layer.hook("hook_attn_out")], [layer.hook("hook_z")]
    with ExitStack() as stack:
        if layer.mlp is not None:
            ends.append(layer.hook("hook_mlp_out"))
            entry = layer.hook("mlp.hook_in")  # a bridge may give it a second name, `hook_resid_mid`
            if entry in anatomy.points:
                cuts.append(entry)
            else:
                handle = layer.mlp_module.register_forward_pre_hook(
                    lambda module, inputs: (inputs[0][:, -1:], *inputs[1:])
                )
                stack.callback(handle.remove)

        def cut(value: Tensor, hook: HookPoint) -> Tensor:
            length[:] = [value.shape[1]]
            return value[:, -1:]

        def widen(value: Tensor, hook: HookPoint) -> Tensor:
            # whole where nothing was cut: Hugging Face's own attention need not call `hook_z`
            return nn.functional.pad(value, (0, 0, length[0] - value.shape[1], 0)) if length else value

        stack.enter_context(hooked(anatomy.model, anatomy.points, [(name, cut) for name in cuts]))
        stack.enter_context(
            hooked(anatomy.model, anatomy.points, [(name, widen) for name in ends], first=True)
        )
        yield
