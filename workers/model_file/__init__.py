"""A model file as it describes itself, read without XGBoost (`reader.py`), and whether the manifest fits it."""

from dataclasses import dataclass

from workers.manifest import Manifest
from workers.template.layout import Layout, features

Version = tuple[int, int, int]

# So many of a feature's categories are named in an error.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a sound model file says about itself. `kind` and `width` are those of the manifest's output.

    `feature_names` and `feature_types` (`c` is a category) are empty if the file has none. `categories` are the texts
    that a data frame's categories had in training, in the order of their codes, by feature; `codes` is the largest
    category that a split names, by feature.
    """

    format: str
    version: Version
    objective: str
    booster: str
    rounds: int
    best_iteration: int | None
    features: int
    feature_names: tuple[str, ...]
    feature_types: tuple[str, ...]
    categories: dict[int, tuple[str, ...]]
    codes: dict[int, int]
    kind: str
    width: int
    quantiles: tuple[float, ...] = ()

    @property
    def tree_range(self) -> tuple[int, int] | None:
        """The range up to the best iteration, if training went on after it."""
        if self.best_iteration is None or self.best_iteration + 1 >= self.rounds:
            return None
        return 0, self.best_iteration + 1

    def faults(self, manifest: Manifest) -> list[str]:
        """Return where the manifest says something else than the file, each with the manifest's key."""
        layout = features(manifest.columns, manifest.preprocessing, manifest.base_margin, manifest.output.width)
        return [
            *self._output_faults(manifest),
            *self._feature_faults(manifest, layout),
            *self._tree_range_faults(manifest.tree_range),
        ]

    def _output_faults(self, manifest: Manifest) -> list[str]:
        output = manifest.output
        # A probability too, if somebody has trained it for two labels.
        if output.kind != self.kind and (output.kind, self.objective) != ("binary", "reg:logistic"):
            return [f"output.kind: the file's objective {self.objective} is for {self.kind}, not for {output.kind}"]
        if output.width != self.width:
            what = "labels" if output.labels else "names"
            return [
                f"output.{what}: the model gives {self.width} values a row, the manifest's output has {output.width}"
            ]
        if manifest.base_margin and self.objective.startswith("multi:") and self.width == 1:
            return ["base_margin: the model takes 2 numbers a row, for its two classes; train it with binary:logistic"]
        return []

    def _feature_faults(self, manifest: Manifest, layout: Layout) -> list[str]:
        if len(layout.names) != self.features:
            after = " after preprocessing" if manifest.preprocessing else ""
            return [f"columns: the model takes {self.features} columns, the manifest lists {len(layout.names)}{after}"]
        for place, (ours, theirs) in enumerate(zip(layout.names, self.feature_names, strict=False)):
            if ours != theirs:
                return [
                    "columns: the manifest's columns are not the model's, in the model's order: "
                    f"number {place + 1} is {ours!r} here and {theirs!r} in the file"
                ]
        fractions = {column.name for column in manifest.columns if column.type == "float"}
        faults = []
        for place, name in enumerate(layout.names):
            texts, trained = layout.categories.get(name, ()), self.categories.get(place, ())
            if name in fractions and not manifest.preprocessing and self._is_category(place):
                faults.append(f"columns.{name}: the model takes categories there, the manifest's column is float")
            elif texts and trained and texts != trained:
                more = " …" if len(trained) > _NAMED else ""
                faults.append(
                    f"columns.{name}: the categories are not the model's, in the model's order: "
                    f"{', '.join(trained[:_NAMED])}{more}"
                )
            elif texts and self.codes.get(place, 0) >= len(texts):
                faults.append(
                    f"columns.{name}: the model knows a category number {self.codes[place]} (from 0), "
                    f"the manifest lists {len(texts)}"
                )
        return faults

    def _is_category(self, place: int) -> bool:
        return place in self.codes or self.feature_types[place : place + 1] == ("c",)

    def _tree_range_faults(self, chosen: tuple[int, int] | None) -> list[str]:
        if chosen is None:
            if self.tree_range is None:
                return []
            return [
                f"tree_range: the file's best iteration is {self.best_iteration} of {self.rounds} rounds; write "
                f"tree_range: [0, {self.tree_range[1]}], or [0, {self.rounds}] for all trees"
            ]
        if self.booster == "gblinear":
            return ["tree_range: the model is linear and has no trees"]
        if chosen[1] > self.rounds:
            return [f"tree_range: it ends at {chosen[1]}, the file has {self.rounds} rounds"]
        return []
