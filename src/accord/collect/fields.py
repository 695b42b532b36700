"""Types shared by the records and the settings: closed sets of names, and text every database can hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

Kind = Literal["pair", "rank", "rate", "edit"]
Purpose = Literal["label", "evaluation", "qualification"]
Slice = Literal["random", "active"]
UserRole = Literal["admin", "adjudicator", "annotator", "service"]
SkipReason = Literal["unclear", "cannot_judge", "offensive", "technical", "other"]
Gate = Literal["sprt", "beta", "off"]

FLAGS = (
    "fails_instruction",
    "inappropriate",
    "hallucination",
    "satisfies_constraint",
    "sexual",
    "violent",
    "encourages_harm",
    "denigrates_group",
    "harmful_advice",
    "opinion",
    "moral_judgement",
)
"""Yes-or-no questions about one reply, after Ouyang et al. 2022 (InstructGPT), appendix B."""


def storable(text: str) -> str:
    """Refuse text no database takes: NUL characters, halves of surrogate pairs."""
    if "\x00" in text:
        raise ValueError("text must not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("text must be valid Unicode") from error
    return text


Text = Annotated[str, AfterValidator(storable)]
Name = Annotated[Text, Field(min_length=1, max_length=100)]
