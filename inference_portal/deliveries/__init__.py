"""What happened goes where it is wanted: the ledger of deliveries, webhooks, sinks, events for subscribers."""
