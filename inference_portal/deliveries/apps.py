"""The app of the deliveries."""

from django.apps import AppConfig


class DeliveriesConfig(AppConfig):
    """Holds the tables, hears of every end, and keeps what is on its way from being forgotten."""

    name = "inference_portal.deliveries"

    def ready(self) -> None:
        """Have the ledger written in the transactions in which jobs and batches end."""
        from inference_portal.batches.ending import ON_EVENT
        from inference_portal.deliveries import ledger
        from inference_portal.jobs.endings import ON_FINAL, STILL_NEEDED

        ON_FINAL.append(ledger.jobs_ended)
        STILL_NEEDED.append(ledger.open_of_job())
        ON_EVENT.append(ledger.batch_told)
