"""Rewrites of a backbone's graph for inference, by torch.fx: norms into convolutions, one pass for sum and activation.

The rewrites know no architecture; they look for patterns of layers. A model that cannot be traced is left alone.
"""

import copy
import operator
from collections import Counter

import torch
from timm.layers import DropPath
from torch import fx, nn

from .inference_convolution import BATCH_NORMS, ONEDNN_ACTIVATIONS, InferenceConv2d, fold_batch_norm, freeze

NO_OPERATIONS = (nn.Identity, nn.Dropout, nn.Dropout2d, DropPath)
"""What gives back its input in evaluation."""


class LayerTracer(fx.Tracer):
    """Records whole layers: torch's own, whatever has no parts, and all kinds of convolution and batch norm."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        is_layer = isinstance(module, (nn.Conv2d, *BATCH_NORMS)) or not list(module.children())
        return is_layer or super().is_leaf_module(module, name)


def inference_graph(module: nn.Module, batch_norm: bool, channels_last: bool, onednn: bool) -> fx.GraphModule | None:
    """A copy of `module` for inference, without parameters; `None` if its code cannot be traced.

    Args:
        module (`nn.Module`): In evaluation mode.
        batch_norm (`bool`): Fold norms into the convolutions before them.
        channels_last, onednn (`bool`): See [`InferenceConv2d`].
    """
    module = copy.deepcopy(module)
    if hasattr(module, "set_grad_checkpointing"):
        module.set_grad_checkpointing(False)
    try:
        graph_module = fx.GraphModule(module, LayerTracer().trace(module))
    except Exception:  # tracing runs code of any kind of model, which may fail in any way
        return None
    remove_no_operations(graph_module)
    if batch_norm:
        fold_batch_norms(graph_module)
    replace_convolutions(graph_module, channels_last, onednn)
    overwrite_summands(graph_module)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return freeze(graph_module.eval())


def layer_of(graph_module: fx.GraphModule, node: object) -> nn.Module | None:
    """The layer that a node calls, if it does, with one input."""
    is_call = isinstance(node, fx.Node) and node.op == "call_module" and len(node.args) == 1
    return graph_module.get_submodule(node.target) if is_call else None


def skip(graph_module: fx.GraphModule, node: fx.Node) -> None:
    """Lets all users of a node with one input take that, and removes the node."""
    node.replace_all_uses_with(node.args[0])
    graph_module.graph.erase_node(node)


def set_layer(graph_module: fx.GraphModule, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(graph_module.get_submodule(parent), child, layer)


def remove_no_operations(graph_module: fx.GraphModule) -> None:
    """Drops layers that do nothing in evaluation."""
    for node in list(graph_module.graph.nodes):
        if type(layer_of(graph_module, node)) in NO_OPERATIONS:
            skip(graph_module, node)


def fold_batch_norms(graph_module: fx.GraphModule) -> None:
    """Folds every batch norm whose only input is a convolution that nobody else reads."""
    calls = Counter(node.target for node in graph_module.graph.nodes if node.op == "call_module")
    for node in list(graph_module.graph.nodes):
        norm = layer_of(graph_module, node)
        if type(norm) not in BATCH_NORMS or norm.running_mean is None:
            continue
        source = node.args[0]
        convolution = layer_of(graph_module, source)
        if not isinstance(convolution, nn.Conv2d) or len(source.users) > 1:
            continue
        if calls[node.target] > 1 or calls[source.target] > 1:
            continue
        fold_batch_norm(convolution, norm)
        activation = getattr(norm, "act", nn.Identity())
        if type(activation) in NO_OPERATIONS:
            skip(graph_module, node)
        else:
            set_layer(graph_module, node.target, activation)


def replace_convolutions(graph_module: fx.GraphModule, channels_last: bool, onednn: bool) -> None:
    """Puts [`InferenceConv2d`] in the place of convolutions, with the sum and the activation that follow them."""
    position = {node: index for index, node in enumerate(graph_module.graph.nodes)}
    calls = Counter(node.target for node in graph_module.graph.nodes if node.op == "call_module")
    for node in list(graph_module.graph.nodes):
        convolution = layer_of(graph_module, node)
        if not is_plain_convolution(convolution) or calls[node.target] > 1:
            continue
        followers = []
        total = only_user(node)
        summand = None if total is None else summand_of(total, node)
        # The summand must be there before the convolution runs.
        if summand is not None and position[summand] < position[node]:
            followers.append(total)
            node.args = (*node.args, summand)
        user = only_user(followers[-1] if followers else node)
        activation = layer_of(graph_module, user)
        if type(activation) in ONEDNN_ACTIVATIONS:
            followers.append(user)
        else:
            activation = None
        set_layer(graph_module, node.target, InferenceConv2d(convolution, activation, channels_last, onednn))
        if followers:
            followers[-1].replace_all_uses_with(node)
        for follower in reversed(followers):
            graph_module.graph.erase_node(follower)


def overwrite_summands(graph_module: fx.GraphModule) -> None:
    """Lets convolutions write over the maps that they add, where these are read for the last time."""
    position = {node: index for index, node in enumerate(graph_module.graph.nodes)}

    def makes_new_map(node: fx.Node) -> bool:
        return node.op == "call_module" and type(graph_module.get_submodule(node.target)) is InferenceConv2d

    for node in graph_module.graph.nodes:
        if not makes_new_map(node) or len(node.args) != 2:
            continue
        features, summand = node.args
        # Other readers may hand on the map itself or a view of it; a convolution does not.
        readers = [user for user in summand.users if user is not node]
        are_done = all(makes_new_map(reader) and position[reader] < position[node] for reader in readers)
        if makes_new_map(summand) and are_done and features is not summand:
            node.kwargs = {"overwrite": True}


def is_plain_convolution(layer: nn.Module | None) -> bool:
    """Whether [`InferenceConv2d`] can compute the layer: zero-padded by numbers, and of no subclass."""
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)


def only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def summand_of(total: fx.Node, node: fx.Node) -> fx.Node | None:
    """The map that `total` adds to `node`, if it is such a sum."""
    if total.target not in (operator.add, operator.iadd, torch.add) or total.kwargs:
        return None
    others = [argument for argument in total.args if argument is not node]
    is_map = len(others) == 1 and isinstance(others[0], fx.Node) and others[0].op != "get_attr"
    return others[0] if is_map else None
