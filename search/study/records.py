"""What a trial's record has to be, beyond the JSON that the journal reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsearch.errors import InputError
from mmsearch.model.spec import TrialSpec

if TYPE_CHECKING:
    from mmsearch.tracking.journal.journal import TrialRecord


def check_record(record: TrialRecord) -> None:
    """Check that a trial was begun, trained and ended by the rules of its spec.

    Raises:
        InputError: its spec or facts are of another shape, or its curve is not all there.
    """
    spec = TrialSpec.from_json(record.spec)
    counts = [record.facts.get(name) for name in ("started_ms", "n_parameters")]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise InputError("its start or its number of parameters is no whole number")
    if not isinstance(record.facts.get("versions", {}), dict):
        raise InputError("its versions are no table")
    losses = [segment.dev_loss for segment in record.curve]
    if spec.has_ended(losses[:-1]) or (record.state == "COMPLETE" and not spec.has_ended(losses)):
        raise InputError(
            f"it is {record.state}, and its {len(losses)} segments are not those of such a trial"
        )
