"""The structure of a model's trees, checked before XGBoost's native code follows it without looking."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.model_file.parts import MOST, ModelFileError, Node

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Categories are exact float32 numbers.
MAX_CATEGORY = 2**24
# XGBoost makes a set of bits for each split by categories, as long as the largest of them: so many in a whole model.
MAX_CATEGORY_BITS = 2**31
# SHAP recurses to the bottom, with memory for the square of the depth.
MAX_DEPTH = 512
# The feature of a node that pruning took out.
_DELETED = MOST


@dataclass(frozen=True, slots=True)
class _Forest:
    """The nodes of all trees in one row. Children and parents are places in it; -1 is none."""

    paths: tuple[str, ...]
    sizes: Ints
    start: Ints
    tree: Ints
    left: Ints
    right: Ints
    condition: npt.NDArray[np.float32]
    parent: Ints
    feature: Ints
    by_category: Flags
    leaf: Flags

    def refuse(self, wrong: Flags, reason: str) -> None:
        """Raise ModelFileError for the first node that is wrong."""
        if wrong.any():
            node = int(wrong.argmax())
            tree = int(self.tree[node])
            raise ModelFileError(f"{self.paths[tree]}node {node - int(self.start[tree])}: {reason}")


def check_trees(trees: list[Node], features: int, width: int) -> dict[int, int]:
    """Check all trees of a model. Returns the largest category that a split names, by feature.

    Raises ModelFileError for indices out of range, cycles, nodes with two parents or none, numbers that aren't finite,
    and lists whose lengths differ.
    """
    if not trees:
        return {}
    sizes = [tree.node("tree_param").count("num_nodes", 1) for tree in trees]
    leaf_sizes = {_leaf_size(tree, width) for tree in trees}
    if len(leaf_sizes) > 1:
        raise trees[0].error("tree_param.size_leaf_vector", "the trees' leaves differ in size")
    for tree, size in zip(trees, sizes, strict=True):
        _check_numbers(tree, size, leaf_sizes == {1})
    forest = _forest(trees, np.array(sizes, dtype=np.int64))
    reached = _walk(forest)
    forest.refuse(
        reached & ((forest.feature < 0) | (forest.feature >= features)), f"expected feature 0 to {features - 1}"
    )
    forest.refuse(~reached & (forest.feature != _DELETED), "no way leads to it from the root")
    # Before XGBoost 3 a split by category has none; a leaf of several numbers has something else there.
    used = reached & ~forest.by_category & (~forest.leaf | (leaf_sizes == {1}))
    forest.refuse(used & ~np.isfinite(forest.condition), "its threshold or value is not finite")
    deleted = np.bincount(forest.tree[~reached], minlength=len(trees))
    for tree, size, count in zip(trees, sizes, deleted, strict=True):
        if tree.node("tree_param").count("num_deleted", 0, size, default=0) != count:
            raise tree.error("tree_param.num_deleted", f"{count} nodes are deleted")
    for tree, leaves, size in zip(trees, np.split(forest.leaf & reached, forest.start[1:]), sizes, strict=True):
        _check_weights(tree, size, leaf_sizes.copy().pop(), leaves)
    return _check_categories(forest, trees, reached & ~forest.leaf)


def _leaf_size(tree: Node, width: int) -> int:
    """Return how many numbers a leaf has. Files of XGBoost before 2.0 say 0 and mean one."""
    size = tree.node("tree_param").count("size_leaf_vector", 0, default=1) or 1
    if size not in (1, width):
        raise tree.error("tree_param.size_leaf_vector", f"expected 1 or {width}, got {size}")
    return size


def _check_numbers(tree: Node, size: int, single: bool) -> None:
    if not single and "leaf_weights" not in tree:
        # Measured: 3.2.0 dies of files that 2.1.4 and 3.0.5 have saved.
        raise tree.error("leaf_weights", "missing; XGBoost before 3.2 saved such trees in another form: train it again")
    tree.floats("loss_changes", size)
    if (tree.floats("sum_hessian", size) < 0).any():
        raise tree.error("sum_hessian", "expected no negative number")
    if not np.isin(tree.whole("default_left", size), (0, 1)).all():
        raise tree.error("default_left", "expected 0 and 1 only")
    if not np.isin(tree.whole("split_type", size), (0, 1)).all():
        raise tree.error("split_type", "expected 0 and 1 only")


def _forest(trees: list[Node], sizes: Ints) -> _Forest:
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    number = np.repeat(np.arange(len(trees)), sizes)

    def gathered(key: str) -> Ints:
        return np.concatenate([tree.whole(key, int(size)) for tree, size in zip(trees, sizes, strict=True)])

    def placed(indices: Ints, none: Flags) -> Ints:
        return np.where(none, -1, indices + start[number])

    left, right, parent = gathered("left_children"), gathered("right_children"), gathered("parents")
    leaf = left == -1
    forest = _Forest(
        paths=tuple(tree.path for tree in trees),
        sizes=sizes,
        start=start,
        tree=number,
        left=placed(left, leaf),
        # With several numbers a leaf this is the place of the leaf's.
        right=placed(right, leaf),
        condition=np.concatenate(
            [tree.floats("split_conditions", int(size), finite=False) for tree, size in zip(trees, sizes, strict=True)]
        ),
        parent=placed(parent, (parent == -1) | (parent == _DELETED)),
        feature=gathered("split_indices"),
        by_category=gathered("split_type") == 1,
        leaf=leaf,
    )
    for side in (left, right):
        forest.refuse(~leaf & ((side < 1) | (side >= sizes[number])), "a child that isn't in the tree")
    return forest


def _walk(forest: _Forest) -> Flags:
    """Return which nodes the roots lead to. Raises ModelFileError for a node that is met twice."""
    reached = np.zeros(len(forest.tree), dtype=np.bool_)
    level = forest.start
    reached[level] = True
    forest.refuse(reached & (forest.parent != -1), "the root has no parent")
    for _ in range(MAX_DEPTH):
        inner = level[~forest.leaf[level]]
        if not len(inner):
            return reached
        level = np.concatenate([forest.left[inner], forest.right[inner]])
        again = np.zeros_like(reached)
        again[level] = reached[level]
        again |= np.bincount(level, minlength=len(reached)) > 1
        forest.refuse(again, "two ways lead to it")
        stray = np.zeros_like(reached)
        stray[level] = forest.parent[level] != np.concatenate([inner, inner])
        forest.refuse(stray, "its parent is another node")
        reached[level] = True
    raise ModelFileError(f"{forest.paths[forest.tree[level[0]]]}left_children: deeper than {MAX_DEPTH} levels")


def _check_weights(tree: Node, size: int, leaf_size: int, leaves: Flags) -> None:
    tree.floats("base_weights", size * leaf_size)
    if leaf_size > 1:
        count = int(leaves.sum())
        tree.floats("leaf_weights", count * leaf_size)
        places = tree.whole("right_children", size)[leaves]
        if not np.array_equal(np.sort(places), np.arange(count)):
            raise tree.error("right_children", f"expected each of {count} leaves' numbers to be used once")


def _check_categories(forest: _Forest, trees: list[Node], inner: Flags) -> dict[int, int]:
    largest: dict[int, int] = {}
    bits = 0
    for tree, begin, size in zip(trees, forest.start, forest.sizes, strict=True):
        own = slice(int(begin), int(begin + size))
        nodes = tree.whole("categories_nodes")
        if not np.array_equal(nodes, np.flatnonzero(forest.by_category[own] & inner[own])):
            raise tree.error("categories_nodes", "expected the nodes that split by category, in order")
        categories = tree.whole("categories")
        segments, sizes = tree.whole("categories_segments", len(nodes)), tree.whole("categories_sizes", len(nodes))
        if not len(nodes):
            continue
        if (
            (sizes < 1).any()
            or not np.array_equal(segments, np.cumsum(sizes) - sizes)
            or sizes.sum() != len(categories)
        ):
            raise tree.error("categories_segments", f"the segments don't cover {len(categories)} categories one by one")
        if (categories < 0).any() or (categories >= MAX_CATEGORY).any():
            raise tree.error("categories", f"expected 0 to {MAX_CATEGORY - 1}")
        most = np.maximum.reduceat(categories, segments)
        bits += int(most.sum()) + len(most)
        if bits > MAX_CATEGORY_BITS:
            raise tree.error("categories", "too many and too large categories")
        for feature, category in zip(forest.feature[own][nodes].tolist(), most.tolist(), strict=True):
            largest[feature] = max(largest.get(feature, 0), category)
    return largest
