"""The manifest's form as a JSON Schema, by which editors complete, explain and check.

Write it again with `python -m workers.template.json_schema > models_store/manifest.schema.json`. It says what each key
may hold; what two keys have to do with each other, only reading the manifest shows.
"""

import json

from workers.manifest import Manifest

FILE = "manifest.schema.json"


def json_schema() -> str:
    """Return the JSON Schema (draft 2020-12) of the present template as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Manifest.model_json_schema()
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
