"""Every error Accord raises on purpose.

AccordError                 exit 1   (base; never raised itself)
|-- ConfigError             exit 2   a key, value, path or command-line argument is wrong
|-- DataError               exit 3   a data set cannot be read or says nothing
|-- ArtifactError           exit 4   a run directory, artifact or checkpoint is missing, damaged or not writable
|-- ModelError              exit 5   a model, tokenizer or chat template cannot be used
|-- EngineError             exit 6   generation failed or cannot do what was asked
|-- RewardError             exit 7   scores are missing or not finite beyond what the config allows
|-- TrainingError           exit 8   training cannot go on (non-finite loss, no trainable parameter, ...)
|-- SandboxError            exit 9   strange code cannot be run here, or not safely
`-- Waiting                 exit 75  people must act first; run the same command again afterwards

A message says what happened, where, and what to do; the command line prints it without a traceback.
"""

from __future__ import annotations


class AccordError(Exception):
    """Base of all errors meant for a user."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        """Build the message.

        Args:
            what: what happened, one sentence without a final newline.
            where: file, line, key or object it happened at.
            fix: what the user can do about it.
        """
        self.what = what
        self.where = where
        self.fix = fix
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if fix:
            lines.append(f"  to do: {fix}")
        super().__init__("\n".join(lines))


class ConfigError(AccordError):
    """A key, value, path or command-line argument is wrong."""

    exit_code = 2


class DataError(AccordError):
    """A data set cannot be read, or has no usable rows."""

    exit_code = 3


class ArtifactError(AccordError):
    """A run directory, artifact or checkpoint is missing, damaged or not writable."""

    exit_code = 4


class ModelError(AccordError):
    """A model, tokenizer or chat template cannot be used."""

    exit_code = 5


class EngineError(AccordError):
    """Generation failed, or the engine cannot do what was asked."""

    exit_code = 6


class RewardError(AccordError):
    """Scores are missing or not finite beyond what the configuration allows."""

    exit_code = 7


class TrainingError(AccordError):
    """Training cannot go on."""

    exit_code = 8


class SandboxError(AccordError):
    """Strange code cannot be run on this machine, or not safely."""

    exit_code = 9


class Waiting(AccordError):  # noqa: N818  (nothing went wrong)
    """People must act first; running the same command again continues."""

    exit_code = 75
