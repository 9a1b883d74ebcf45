"""How a state looks: the colour of its label and its text."""

from inference_portal.jobs.states import State

# The colours are Unfold's kinds of label.
STATE_COLOURS = {
    State.QUEUED: "info",
    State.RUNNING: "primary",
    State.RETRYING: "warning",
    State.SUCCEEDED: "success",
    State.FAILED: "danger",
    State.DEAD_LETTERED: "danger",
    State.CANCELLED: "",
    State.EXPIRED: "warning",
}


def state_text(state: str) -> str:
    """Return the state for people."""
    return state.replace("_", "-")


def state_label(state: str) -> dict[str, str]:
    """Return what the template of a label needs."""
    return {"type": STATE_COLOURS.get(State(state), ""), "text": state_text(state)}
