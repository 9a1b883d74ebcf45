"""Teams, people and API keys."""
