"""What is known of the stroke phantom's outcome, against slow sampling of the same model."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from chiasm.domains.stroke import outcome as so
from chiasm.domains.stroke.outcome import PLACES, SUBSETS, bayes, draw_latents, posterior


@pytest.fixture(scope="module")
def latents() -> so.Latents:
    return draw_latents(4000, seed=3)


def test_the_first_studies_are_the_same_however_many_are_drawn(latents: so.Latents) -> None:
    few, holes = draw_latents(300, seed=3), draw_latents(4000, seed=3, missing=0.4)
    for name in ("size", "place", "nihss", "age_years", "glucose_mmol_l", "mrs", "observed"):
        np.testing.assert_array_equal(getattr(few, name), getattr(latents, name)[:300])
        np.testing.assert_array_equal(getattr(holes, name), getattr(latents, name))
    assert latents.pictured.all() and latents.recorded.all()
    assert 0.2 < 1 - holes.pictured.mean() < 0.4 and 0.3 < 1 - holes.recorded.mean() < 0.5
    assert (holes.pictured | holes.recorded).all()


def test_latents_are_as_described(latents: so.Latents) -> None:
    assert sum(place.share for place in PLACES) == pytest.approx(1)
    most = np.array([place.most_ml for place in PLACES])
    assert (latents.volume_ml >= so.LOW_ML - 1e-9).all() and (latents.volume_ml <= most[latents.place] + 1e-9).all()
    np.testing.assert_allclose(so.size_of(latents.volume_ml), latents.size)
    assert set(np.unique(latents.mrs)) == set(range(7))
    assert 0.3 < np.mean(latents.mrs > 2) < 0.55
    weights = np.array([place.weight for place in PLACES])[latents.place]
    expected = 8 + so.N_SIZE * latents.size + so.N_PLACE * weights
    assert np.std(latents.nihss - expected) == pytest.approx(so.N_SD, rel=0.08)
    np.testing.assert_allclose(1 - latents.observed.mean(axis=0), so.UNOBSERVED, atol=0.02)


def test_the_scores_probability_by_hand() -> None:
    p = so.nihss_probability(np.array([0.0]), np.array([1.0]))[0]
    mean = 8 + so.N_PLACE
    assert p.sum() == pytest.approx(1)
    assert p[10] == pytest.approx(norm.cdf((10.5 - mean) / so.N_SD) - norm.cdf((9.5 - mean) / so.N_SD))
    assert p[0] == pytest.approx(norm.cdf((0.5 - mean) / so.N_SD))


def test_with_everything_known_the_posterior_is_the_model(latents: so.Latents) -> None:
    full = latents.observed.all(axis=1)
    weights = np.array([place.weight for place in PLACES])[latents.place]
    eta = so.linear_predictor(
        latents.size,
        weights,
        latents.nihss,
        so.AGE.standardize(latents.age_years),
        so.GLUCOSE.standardize(latents.glucose_mmol_l),
    )
    np.testing.assert_allclose(posterior(latents, SUBSETS[2].split("+"))[full], so.sigmoid(eta)[full], rtol=1e-9)


def test_every_level_of_the_outcome_has_its_odds() -> None:
    many = draw_latents(20_000, seed=1)
    weights = np.array([place.weight for place in PLACES])[many.place]
    age, glucose = so.AGE.standardize(many.age_years), so.GLUCOSE.standardize(many.glucose_mmol_l)
    eta = so.linear_predictor(many.size, weights, many.nihss, age, glucose)
    for level, cut in enumerate(so.CUTS):
        p = so.sigmoid(eta - cut)
        for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
            here = (p > low) & (p < high)
            assert np.mean(many.mrs[here] > level) == pytest.approx(p[here].mean(), abs=0.03)


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("row", [0, 1])
def test_posteriors_agree_with_sampling_of_the_hidden_causes(latents: so.Latents, subset: str, row: int) -> None:
    """Draw what the subset hides from the model, keep what agrees with what it shows."""
    rng, n = np.random.default_rng(row), 1_500_000
    seen = subset.split("+")
    wanted = np.flatnonzero(~latents.observed[:, 1] if row else latents.observed.all(axis=1))[0]
    one = latents[np.array([wanted])]
    weights = np.array([place.weight for place in PLACES])
    if "image" in seen:
        size, weight = np.full(n, one.size[0]), np.full(n, weights[one.place[0]])
    else:
        place = rng.choice(len(PLACES), n, p=[p.share for p in PLACES])
        high = so.size_of(np.array([p.most_ml for p in PLACES]))
        size, weight = rng.uniform(so.size_of(np.array(1.0)), high[place]), weights[place]
    nihss = np.clip(np.rint(8 + so.N_SIZE * size + so.N_PLACE * weight + so.N_SD * rng.standard_normal(n)), 0, 42)
    age, glucose = rng.standard_normal((2, n))
    keep = np.ones(n, bool)
    if "record" in seen:
        observed = one.observed[0]
        age = np.full(n, so.AGE.standardize(one.age_years)[0]) if observed[0] else age
        glucose = np.full(n, so.GLUCOSE.standardize(one.glucose_mmol_l)[0]) if observed[2] else glucose
        keep = nihss == one.nihss[0] if observed[1] else keep
    p = so.sigmoid(so.linear_predictor(size, weight, nihss, age, glucose))[keep]
    assert len(p) > 500
    assert posterior(one, seen)[0] == pytest.approx(p.mean(), abs=4 * p.std() / len(p) ** 0.5 + 1e-3)


def test_more_is_known_with_more_and_the_posteriors_are_calibrated(latents: so.Latents) -> None:
    truth, known = latents.mrs > 2, bayes(latents)
    assert tuple(known) == SUBSETS
    auroc = {subset: roc_auc_score(truth, p) for subset, p in known.items()}
    assert auroc["image+record"] > max(auroc["image"], auroc["record"]) + 0.03
    assert min(auroc.values()) > 0.75
    for p in known.values():
        assert np.mean(p) == pytest.approx(np.mean(truth), abs=0.02)
        assert np.mean(truth[p > 0.5]) == pytest.approx(p[p > 0.5].mean(), abs=0.04)


def test_who_lacks_a_modality_learns_nothing_from_it() -> None:
    holes = draw_latents(600, seed=3, missing=0.4)
    known = bayes(holes)
    no_image, no_record = ~holes.pictured, ~holes.recorded
    np.testing.assert_array_equal(known["image+record"][no_image], known["record"][no_image])
    np.testing.assert_array_equal(known["image+record"][no_record], known["image"][no_record])
    prior = known["image"][no_image]
    np.testing.assert_allclose(prior, prior[0])
    assert prior[0] == pytest.approx(np.mean(draw_latents(20_000).mrs > 2), abs=0.015)
