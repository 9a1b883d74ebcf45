"""The broker's words on what was published on one channel, matched to the messages.

The library can wait for a confirm after each message, and doesn't look which one it is for. Here many messages go out
before their confirms are waited for.
"""

import time
from typing import Any

from amqp.exceptions import MessageNacked


class Confirms:
    """Counts what a py-amqp channel publishes, and what the broker stored, refused or returned of it.

    The channel's connection must not have `confirm_publish` set, and is of no use after an error.
    """

    def __init__(self, channel: Any) -> None:
        channel.confirm_select()
        self._connection = channel.connection
        self._publish = channel.basic_publish
        channel.basic_publish = self._counted
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._sent = 0
        # By their numbers on the channel, from 1, as confirms name them; with what returned messages are known by.
        self._open: dict[int, str] = {}
        self._failed: dict[int, Exception] = {}

    @property
    def next(self) -> int:
        """The number of the next message."""
        return self._sent + 1

    def wait(self, seconds: float) -> None:
        """Return once the broker has said a word on each message. Raises TimeoutError, and what the library raises."""
        end = time.monotonic() + seconds
        while self._open:
            self._connection.drain_events(timeout=max(0.001, end - time.monotonic()))

    def take_failed(self, error: Exception | None = None) -> dict[int, Exception]:
        """Return why messages aren't stored, by number; an error that has ended the channel is why of what is open."""
        failed, self._failed = self._failed, {}
        return failed if error is None else failed | dict.fromkeys(self._open, error)

    def _counted(self, message: Any, *args: Any, **named: Any) -> Any:
        self._sent += 1
        self._open[self._sent] = _name(message)
        return self._publish(message, *args, **named)

    def _on_ack(self, tag: int, multiple: bool) -> list[int]:
        done = [number for number in self._open if number <= tag] if multiple else [tag]
        for number in done:
            self._open.pop(number, None)
        return done

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for number in self._on_ack(tag, multiple):
            self._failed[number] = MessageNacked("the broker refused the message")

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        # It comes before the message's confirm.
        for number, name in self._open.items():
            if name == _name(message):
                self._failed[number] = error


def _name(message: Any) -> str:
    properties = message.properties
    return str(properties.get("message_id") or properties.get("correlation_id"))
