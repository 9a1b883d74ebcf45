"""The job record and its flow."""
