"""Forms whose input goes through the API's own checks: what those refuse is said at its field, in their words."""

from typing import ClassVar

from django import forms

from workers.formats import Invalid


class RefusalForm(forms.Form):
    """A form that can be told what was refused. POINTERS: the fields that are named otherwise than the API's."""

    POINTERS: ClassVar[dict[str, str]] = {}

    def add_refusal(self, invalid: Invalid) -> None:
        """Say at its field what was refused."""
        for fault in invalid.faults:
            field = self.POINTERS.get(fault.pointer, fault.pointer[1:].partition("/")[0])
            self.add_error(field if field in self.fields else None, f"{fault.detail[:1].upper()}{fault.detail[1:]}.")
