"""Says before the work whether `metrics.epsilon` can be certified by so many examples, or by their clusters."""

import math

from conf.schema import Metrics
from metrics.statistics.certificates import examples_needed, least_epsilon, least_epsilon_of_limits
from metrics.statistics.cluster_certificates import Clusters


def clusters_note(clusters: Clusters, config: Metrics) -> str:
    """Says what certificates draw where examples come in clusters, and whether `metrics.epsilon` can be certified."""
    text = (
        f"Examples come in clusters: certificates bet on the sums of {clusters.count:,} clusters instead of counting "
        f"examples, and hold for clusters of up to {clusters.largest:,} examples."
    )
    least = math.ceil(clusters.least_limit(config.delta) * 1e4 - 1e-9) / 1e4
    if config.epsilon >= least:
        return text
    return (
        f"{text} They certify {least:g} at best with metrics.delta={config.delta:g}, so that "
        f"metrics.epsilon={config.epsilon:g} is too small to certify anything: set metrics.epsilon={least:g} or more, "
        "or score more clusters."
    )


def epsilon_warning(examples: int, config: Metrics) -> str:
    """Says that `metrics.epsilon` can't be certified by half of so many examples, and what can; "" if it can."""
    half, epsilon, delta = examples // 2, config.epsilon, config.delta
    if epsilon >= least_epsilon_of_limits(half, delta):
        return ""  # the sharper test, which takes seconds to set up, is not asked
    least = least_epsilon(half, delta)
    if epsilon >= least:
        return ""
    least = math.ceil(least * 1e5 - 1e-9) / 1e5
    text = (
        f"metrics.epsilon={epsilon:g} is too small to certify anything: {half:,} examples to calibrate on, half of "
        f"{examples:,}, certify {least:g} at best with metrics.delta={delta:g}. "
    )
    if epsilon <= 0:
        return f"{text}No number of examples certifies a loss of 0: set metrics.epsilon={least:g} or more."
    needed = 2 * examples_needed(epsilon, delta)
    return f"{text}Set metrics.epsilon={least:g} or more, or score {needed:,} examples."
