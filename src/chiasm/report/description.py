"""A description of an image from its facts alone: findings and impression, as an object and as text.

Nothing of the record, the outcome or the report is at hand here: `Facts` come from `read_image_facts`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict

from chiasm.report.facts import Facts, name_of, observe

_STROKE = (
    *("hemisphere", "foci", "cortical_share", "subcortical_share", "infratentorial_share", "ventricle_share"),
    *("midline_distance_mm", "flair_visible", "flair_contrast"),
)


class Part(BaseModel):
    """What a text is made of; an unknown key is an error, also in a language model's answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageDescription(Part):
    """What is seen, sentence by sentence, and what it comes to."""

    findings: tuple[str, ...]
    impression: str

    @property
    def text(self) -> str:
        return f"FINDINGS: {' '.join(self.findings)}\nIMPRESSION: {self.impression}"


def describe(facts: Facts) -> ImageDescription | None:
    """The template's description (`prompts/stroke.txt.j2`, `prompts/regions.txt.j2`), or None if nothing was measured."""
    if "lesion_volume_ml" in facts.measured:
        values = {**dict.fromkeys(_STROKE), **facts.measured}
        text = render("stroke.txt", territories=facts.territories, **values)
    elif facts.statements:
        names = dict.fromkeys(name_of(said.finding) for said in facts.statements)
        text = render("regions.txt", observations=[observe(said) for said in facts.statements], names=list(names))
    else:
        return None
    findings, impression = text.strip().split("\n\n")
    return ImageDescription(findings=tuple(findings.splitlines()), impression=impression)


def render(prompt: str, **values: Any) -> str:
    """One of the files of `chiasm/report/prompts`, filled in."""
    return _prompts().get_template(f"{prompt}.j2").render(values)


def read_prompt(prompt: str) -> str:
    """The same file as it stands."""
    return (resources.files("chiasm.report") / "prompts" / f"{prompt}.j2").read_text("utf-8")


@cache
def _prompts() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(lambda name: read_prompt(name.removesuffix(".j2")))
    return jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=False)
