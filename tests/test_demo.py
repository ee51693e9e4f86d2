"""What the demo prints at its end."""

from chiasm.demo import _render_metrics


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def test_a_figure_stands_beside_the_best_of_the_same_inputs_only():
    lines = _render_metrics(
        {
            "outcome/event/auroc": figure(0.9, 0.8, 0.95),
            "image:outcome/event/auroc": figure(0.7),
            "bayes:image:outcome/event/auroc": figure(0.75, 0.7, 0.8),
            "bayes:text:outcome/event/auroc": figure(0.8, 0.7, 0.85),
        }
    )
    image, text = (line for line in lines if "outcome AUROC" in line)
    assert image.endswith("0.700 (no interval)   best reachable 0.750 (0.700 to 0.800)")
    assert "undefined" in text, "no figure of a model that had more to go by"
    assert "0.900" not in text
