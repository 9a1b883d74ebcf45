"""The tables of the deliveries."""

from inference_portal.deliveries.models.announcement import Announcement
from inference_portal.deliveries.models.attempt import DeliveryAttempt
from inference_portal.deliveries.models.delivery import SINK, Delivery, DeliveryQuerySet
from inference_portal.deliveries.models.endpoint import Endpoint, EndpointQuerySet, TeamSecret
from inference_portal.deliveries.models.host import Host

__all__ = [
    "SINK",
    "Announcement",
    "Delivery",
    "DeliveryAttempt",
    "DeliveryQuerySet",
    "Endpoint",
    "EndpointQuerySet",
    "Host",
    "TeamSecret",
]
