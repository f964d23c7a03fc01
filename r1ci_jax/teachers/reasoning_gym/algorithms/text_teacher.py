"""A teacher whose data are one text, which a pattern finds in the question."""

import random
from collections.abc import Mapping
from typing import ClassVar, override

from r1ci_jax.teachers.template_teacher import TemplateTeacher, read


class TextTeacher(TemplateTeacher[str]):
    """Fills templates with the text, `$data`."""

    pattern: ClassVar[str]
    """Its first group is the text."""

    @override
    def parse(self, question: str) -> str:
        return read(self.pattern, question)[1].strip()

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data}
