"""The terms of a page, each in one plain sentence; a page explains those that occur on it."""

from __future__ import annotations

from collections.abc import Iterable

TERMS = {
    "AUROC": "The chance that the model gives a patient who has the label a higher probability than one who has not: 0.5 is "
    "chance, 1 is perfect.",
    "AUROC pooled": "The AUROC of all answers put together, whichever fold's model gave them; the AUROC within folds compares "
    "only patients whom one model answered.",
    "AUPRC": "The mean precision over all thresholds; chance is the share of patients who have the label.",
    "F1": "The harmonic mean of precision (how many flagged patients have the label) and recall (how many who have it are "
    "flagged), at the threshold chosen on validation.",
    "Balanced accuracy": "The mean of the shares of each class that are answered rightly: with two classes 0.5 is chance.",
    "Accuracy": "The share of patients whose most probable answer is right.",
    "Brier": "The mean squared distance of the probability from what is true (0 or 1): lower is better, 0 is perfect.",
    "Integrated Brier": "The Brier score of the survival curve, averaged over time: lower is better.",
    "ECE": "The expected calibration error: how far, on average, a stated probability lies from the share of patients who have "
    "the label, less what chance alone would make of it; 0 is perfect.",
    "Slope": "The calibration slope: 1 where probabilities are as spread as they should be, below 1 where they are too sure.",
    "Intercept": "The calibration intercept: 0 where probabilities are right on average, below 0 where they are too high.",
    "Net benefit": "What acting from this probability on is worth per patient, counting what treating in vain costs; acting on "
    "nobody is worth 0.",
    "MAE": "The mean absolute error: how far the answer lies from the truth on average, in the target's own units.",
    "Pearson r": "The linear correlation of answer and truth: 0 is none, 1 is perfect.",
    "Quadratic kappa": "The agreement of answered and true levels beyond chance, in which a miss counts by its squared distance: "
    "0 is chance, 1 is perfect.",
    "RPS": "The ranked probability score, the Brier score of ordered levels: lower is better.",
    "C-index": "The chance that of two patients the one with the earlier event is given the earlier time: 0.5 is chance.",
    "Coverage": "The share of patients whose prediction set or interval holds the truth.",
    "Levels in the set": "The mean size of a prediction set: 1 is a single answer, more is doubt.",
    "Width of the interval": "The mean width of the interval that is to hold the truth, in the target's own units.",
    "Prediction set": "The answers that together hold the truth with a stated chance, as validation showed.",
    "Interval": "The 95% interval: where the figure would lie for most samples of other patients like these, with these models.",
    "Within folds": "Among patients whom one model of the cross-validation answered, since scores of two models do not share a "
    "scale; repeats are averaged.",
    "Shapley share": "The part of one patient's answer that comes from an input, averaged over all orders in which the inputs "
    "could have been shown.",
    "Bayes": "The best that these inputs allow, which a phantom knows.",
    "Prior": "The mean of the training patients, given to everybody as the answer.",
}
_LONGEST_FIRST = sorted(TERMS, key=len, reverse=True)


def term_of(heading: str) -> str | None:
    """The term that a heading of a table names.

    >>> term_of("AUROC > 2"), term_of("ECE uncalibrated"), term_of("over folds")
    ('AUROC', 'ECE', None)
    """
    found = (term for term in _LONGEST_FIRST if heading == term or heading.startswith(f"{term} "))
    return next(found, None)


def slug(term: str) -> str:
    """The anchor of a term.

    >>> slug("Pearson r")
    'term-pearson-r'
    """
    return "term-" + term.lower().replace(" ", "-")


def explain(headings: Iterable[str], also: Iterable[str] = ()) -> dict[str, str]:
    """Term -> sentence, of those that occur: in headings, or by name."""
    used = {term_of(heading) for heading in headings} | set(also)
    return {term: sentence for term, sentence in sorted(TERMS.items(), key=lambda t: t[0].lower()) if term in used}
