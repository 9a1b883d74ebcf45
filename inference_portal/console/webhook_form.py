"""The form of a webhook: where to call, and what of. What is wrong is said in the API's words."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from inference_portal.console.refusal_form import RefusalForm
from inference_portal.deliveries import events
from inference_portal.deliveries.models import Endpoint

_GROUPS = {
    "inference.job.*": "inference.job.*: every end of a job",
    "inference.batch.*": "inference.batch.*: all of batches",
}


class WebhookForm(RefusalForm):
    """The fields of a webhook, as the API has them."""

    url = forms.CharField(
        label="Address",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Of your receiver, such as https://receiver.example/hook. It is called with a POST.",
    )
    events = forms.MultipleChoiceField(
        label="Events",
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Nothing chosen: all of them, and those that come with later versions.",
    )
    enabled = forms.BooleanField(label="Turned on", required=False, initial=True, widget=UnfoldBooleanWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Others that were asked for through the API are still the webhook's.
        kept = [each for each in self.initial.get("events", ()) if each not in (*_GROUPS, *events.TYPES)]
        choices: Any = self.fields["events"]
        choices.choices = [*_GROUPS.items(), *((each, each) for each in (*events.TYPES, *kept))]

    def asked(self) -> dict[str, Any]:
        """Return the fields as the API takes them."""
        return dict(self.cleaned_data)

    def changed(self) -> dict[str, Any]:
        """Return those that aren't as they were."""
        return {name: self.cleaned_data[name] for name in self.changed_data}


def values_of(endpoint: Endpoint) -> dict[str, Any]:
    """Return what the form shows of a webhook."""
    return {"url": endpoint.url, "events": endpoint.events, "enabled": endpoint.enabled}
