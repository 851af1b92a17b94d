"""Captions: the text that goes with a stimulus, from a template."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Final

FIELDS: Final = ("concept", "label")
DEFAULT: Final = "a photo of a {concept}"
OPTION: Final = {
    "description": "Template of the captions, in which {concept} and {label} are filled in."
}


def check_template(template: str) -> None:
    """Refuse a template that holds more than text, ``{concept}`` and ``{label}``.

    Attributes, indices, conversions and format specifications are refused, so a template that
    passes cannot reach into an object or ask for a string of any length.

    Raises
    ------
    ValueError
        Names the first field that is neither.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"caption {template!r}: {error}; write {{{{ or }}}} for a brace") from None
    for _, name, specification, conversion in parts:
        if name is not None and (name not in FIELDS or specification or conversion):
            raise ValueError(
                f"caption {template!r}: has the field {name!r}, "
                "expected {concept} and {label} alone, as they are"
            )


def captions(template: str, concepts: Iterable[str], labels: Iterable[int]) -> list[str]:
    """Fill a checked template in, once a stimulus; without a concept the caption is empty."""
    return [
        template.format(concept=concept, label=label) if concept else ""
        for concept, label in zip(concepts, labels, strict=True)
    ]
