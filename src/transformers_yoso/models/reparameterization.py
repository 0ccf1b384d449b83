"""Switch of a trained model between interpolation-first and convolution-first aggregation (paper Observation I)."""

from collections.abc import Callable

from torch import nn
from typing_extensions import Self

from .feature_aggregation import convolution_first, interpolation_first


class ReparameterizationMixin:
    """For a model that is, or whose `base_model` is, a [`YosoModel`]."""

    def to_convolution_first(self) -> Self:
        """Turns interpolation-first aggregation (IFA) into convolution-first (CFA), in place: the same outputs, faster.

        Weights are split by levels, so nothing is lost and [`to_interpolation_first`] is the exact way back. A model
        that is so already stays as it is. The parameters of the aggregation are new: make optimisers afterwards.

        Raises:
            ValueError: if the fusion convolution has a bias or is not 1x1, or for weights that are no plain tensors;
                see `can_be_fused`.
        """
        return self._reparameterize("cfa", convolution_first)

    def to_interpolation_first(self) -> Self:
        """Turns convolution-first aggregation into interpolation-first, in place; see [`to_convolution_first`]."""
        return self._reparameterize("ifa", interpolation_first)

    def _reparameterize(self, aggregator_type: str, convert: Callable[[nn.Module], nn.Module]) -> Self:
        if self.config.aggregator_type == aggregator_type:
            return self
        if not self.can_be_fused:
            raise ValueError(
                "Weights that are quantised, spread over several devices or under adapters cannot be "
                "re-parameterised: merge the adapters, or load the model whole and in a floating dtype."
            )
        neck = self.base_model.feature_pyramid_aggregator
        neck.aggregation = convert(neck.aggregation)
        self.config.aggregator_type = aggregator_type
        if self.is_fused:
            self.fuse(self.base_model.inference_form.transformations)
        return self
