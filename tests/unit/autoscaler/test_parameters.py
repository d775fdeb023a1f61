"""What annotations and `config-autoscaler` come to."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.autoscaler.parameters import Parameters, parse_parameters
from kedge.settings.autoscaler import AutoscalerConfig
from kedge.settings.serving import ConfigError

DEFAULT = AutoscalerConfig()


def parsed(config: AutoscalerConfig = DEFAULT, /, **annotations: Any) -> Parameters:
    given = {
        name.replace("__", "/").replace("_", "-") if "__" in name
        else "autoscaling.knative.dev/" + name.replace("_", "-"): str(value)
        for name, value in annotations.items()
    }  # fmt: skip
    return parse_parameters(
        {"metadata": {"name": "web", "namespace": "ns", "annotations": given}}, config
    )


def config(**keys: str) -> AutoscalerConfig:
    return AutoscalerConfig.from_config_map(
        {"data": {key.replace("_", "-"): value for key, value in keys.items()}}
    )


@pytest.mark.parametrize(
    ("annotations", "total", "target"),
    [
        ({}, 100, 70),
        ({"target": 10}, 10, 7),
        ({"target": 1}, 1, 0.7),
        ({"serving.kedge.dev__container_concurrency": 4}, 4, 2.8),
        ({"serving.kedge.dev__container_concurrency": 4, "target": 10}, 4, 2.8),
        ({"serving.kedge.dev__container_concurrency": 4, "target": 2}, 2, 1.4),
        ({"serving.kedge.dev__container_concurrency": 0, "target": 2}, 2, 1.4),
        ({"metric": "rps"}, 200, 140),
        ({"metric": "rps", "target": 50, "serving.kedge.dev__container_concurrency": 4}, 50, 35),
        ({"target": 0.01, "target_utilization_percentage": 1}, 0.01, 0.01),
        ({"target": 10, "target_utilization_percentage": 100}, 10, 10),
        ({"metric": "rps", "target_utilization_percentage": 50}, 200, 100),
    ],
)
def test_what_a_pod_bears_and_is_given(
    annotations: dict[str, Any], total: float, target: float
) -> None:
    found = parsed(**annotations)
    assert found.total == total
    assert found.target == pytest.approx(target)


def test_a_utilization_for_all_is_not_for_requests_a_second() -> None:
    assert parsed(config(container_concurrency_target_percentage="50")).utilization == 0.5
    assert parsed(config(container_concurrency_target_percentage="0.5")).utilization == 0.5
    half = config(container_concurrency_target_percentage="50")
    assert parsed(half, metric="rps").utilization == 0.7


def test_windows() -> None:
    assert (parsed().stable_window, parsed().panic_window) == (60, 6)
    short = parsed(window="6s")
    assert (short.stable_window, short.panic_window) == (6, 1)
    wide = parsed(window="2m", panic_window_percentage=50)
    assert (wide.stable_window, wide.panic_window) == (120, 60)


def test_everything_that_an_annotation_can_say() -> None:
    found = parsed(
        min_scale=1, max_scale=9, initial_scale=3, activation_scale=4, scale_down_delay="5m",
        panic_threshold_percentage=150, scale_to_zero_pod_retention_period="90s",
        metric_aggregation_algorithm="weighted-exponential", target_burst_capacity=-1,
        serving_knative_dev=0,
        **{"serving.kedge.dev__reachability": "unreachable",
           "serving.kedge.dev__scale_range": "activation",
           "serving.knative.dev__progress_deadline": "20m"},
    )  # fmt: skip
    assert (found.min_scale, found.max_scale, found.initial_scale) == (1, 9, 3)
    assert (found.activation_scale, found.scale_down_delay) == (4, 300)
    assert (found.panic_threshold, found.retention) == (1.5, 90)
    assert (found.weighted, found.reachable, found.activation_only) == (True, False, True)
    assert found.progress_deadline == 1200
    assert not found.proven
    assert not found.problems


def test_the_old_names_are_understood() -> None:
    found = parse_parameters(
        {
            "metadata": {
                "annotations": {
                    "autoscaling.knative.dev/minScale": "2",
                    "autoscaling.knative.dev/maxScale": "3",
                    "autoscaling.knative.dev/targetUtilizationPercentage": "80",
                }
            }
        },
        AutoscalerConfig(),
    )
    assert (found.min_scale, found.max_scale, found.utilization) == (2, 3, 0.8)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("window", "5s", "from 6s to 3600s"),
        ("window", "6500ms", "whole seconds"),
        ("window", "60", "a duration"),
        ("target", "0", "from 0.01"),
        ("target", "many", "a number"),
        ("target_utilization_percentage", "101", "1 to 100"),
        ("panic_window_percentage", "0.5", "1 to 100"),
        ("panic_threshold_percentage", "100", "110 to 1000"),
        ("activation_scale", "1", "from 2"),
        ("scale_down_delay", "2h", "to 3600s"),
        ("metric", "qps", "concurrency or rps"),
        ("min_scale", "-1", "whole number"),
        ("initial_scale", "0", "not allowed"),
        ("target_burst_capacity", "-0.5", "-1"),
        ("metric_aggregation_algorithm", "median", "linear"),
    ],
)
def test_what_cannot_be_used_counts_as_not_given_and_is_said(
    name: str, value: str, said: str
) -> None:
    found = parsed(**{name: value})
    assert len(found.problems) == 1
    assert said in found.problems[0]
    unsaid = parsed()
    for field in Parameters.__dataclass_fields__:
        if field != "problems":
            assert getattr(found, field) == getattr(unsaid, field)


def test_bounds_that_do_not_fit() -> None:
    found = parsed(min_scale=3, max_scale=2)
    assert (found.min_scale, found.max_scale) == (3, 3)
    assert "max-scale 2 is less than min-scale 3" in found.problems[0]
    limited = config(max_scale_limit="5", max_scale="4")
    assert parsed(limited).max_scale == 4
    assert parsed(limited, max_scale=5).max_scale == 5
    assert parsed(limited, max_scale=0).max_scale == 5
    assert parsed(limited, max_scale=9).max_scale == 5
    assert parsed(activation_scale=5, max_scale=3).activation_scale == 3


def test_no_first_pod_where_that_is_allowed() -> None:
    allowed = config(allow_zero_initial_scale="true", initial_scale="0")
    assert parsed(allowed).initial_scale == 0
    assert parsed(allowed, initial_scale=2).initial_scale == 2
    assert parsed(config(allow_zero_initial_scale="true"), initial_scale=0).initial_scale == 0


def test_the_config_map_in_force() -> None:
    found = config(
        stable_window="2m", panic_window_percentage="20", panic_threshold_percentage="300",
        max_scale_up_rate="10", max_scale_down_rate="4", enable_scale_to_zero="false",
        scale_to_zero_grace_period="10s", scale_to_zero_pod_retention_period="1m5s",
        requests_per_second_target_default="150", container_concurrency_target_default="50",
        min_scale="1", max_scale="20", scale_down_delay="15m",
        target_burst_capacity="-1", activator_capacity="100", _example="not: read",
    )  # fmt: skip
    one = parsed(found)
    assert (one.stable_window, one.panic_window, one.panic_threshold) == (120, 24, 3)
    assert (one.max_scale_up_rate, one.max_scale_down_rate) == (10, 4)
    assert (one.scale_to_zero, one.grace, one.retention) == (False, 10, 65)
    assert (one.total, one.min_scale, one.max_scale) == (50, 1, 20)
    assert (parsed(found, metric="rps").total, one.scale_down_delay) == (150, 900)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("stable_window", "1s", "`stable-window`: '1s' cannot be used"),
        ("max_scale_up_rate", "1", "above 1"),
        ("enable_scale_to_zero", "maybe", "true or false"),
        ("pod_autoscaler_class", "magic", "kpa.autoscaling.knative.dev or"),
        ("initial_scale", "0", "allow-zero-initial-scale"),
        ("scale_to_zero_grace_period", "0", "above 0s"),
        ("panic_window_percentage", "1", "less than 1 s"),
        ("max_scale_limit", "3", "max-scale"),
    ],
)
def test_a_config_map_that_cannot_be_used_is_refused(key: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"ConfigMap config-autoscaler") as refused:
        config(**{key: value})
    assert said in str(refused.value)
