"""A description of an image from what was drawn in or measured on it: findings and impression, as an object and as text.

Nothing of the record, the outcome or the report is at hand here: the content comes from `read_image_content`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict

from chiasm.report.content import TextContent, finding_name, render_statement

_STROKE = (
    *("hemisphere", "foci", "cortical_share", "subcortical_share", "infratentorial_share", "ventricle_share"),
    *("midline_distance_mm", "flair_visible", "flair_contrast"),
)


class StrictModel(BaseModel):
    """A part of a text; an unknown key is an error, also in a language model's answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageDescription(StrictModel):
    """What is seen, sentence by sentence, and what it comes to."""

    findings: tuple[str, ...]
    impression: str

    @property
    def text(self) -> str:
        return f"FINDINGS: {' '.join(self.findings)}\nIMPRESSION: {self.impression}"


def build_description(content: TextContent) -> ImageDescription | None:
    """The template's description (`prompts/stroke.txt.j2`, `prompts/regions.txt.j2`), or None if nothing was measured."""
    if "lesion_volume_ml" in content.measured:
        values = {**dict.fromkeys(_STROKE), **content.measured}
        text = render_prompt("stroke.txt", territories=content.territories, **values)
    elif content.statements:
        names = dict.fromkeys(finding_name(said.finding) for said in content.statements)
        text = render_prompt(
            "regions.txt", observations=[render_statement(said) for said in content.statements], names=list(names)
        )
    else:
        return None
    findings, impression = text.strip().split("\n\n")
    return ImageDescription(findings=tuple(findings.splitlines()), impression=impression)


def render_prompt(prompt: str, **values: Any) -> str:
    """One of the files of `chiasm/report/prompts`, filled in."""
    return _prompts().get_template(f"{prompt}.j2").render(values)


def read_prompt(prompt: str) -> str:
    """The same file as it stands."""
    return (resources.files("chiasm.report") / "prompts" / f"{prompt}.j2").read_text("utf-8")


@cache
def _prompts() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(lambda name: read_prompt(name.removesuffix(".j2")))
    return jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=False)
