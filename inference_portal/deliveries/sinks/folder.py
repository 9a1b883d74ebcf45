"""Results as files in a folder of the courier's machine."""

import errno
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from inference_portal.deliveries.sinks.result_file import ResultFile
from inference_portal.deliveries.sinks.sink import NotSent
from workers.datasets import local_place

FILE_MODE = 0o640


def _check_root(root: str) -> str:
    if not os.path.isabs(root) or "\0" in root or os.path.normpath(root) in ("/", "//"):
        raise ValueError("expected the absolute path of a folder, not of the root")
    return os.path.normpath(root)


class FolderSink(ResultFile):
    """A file for each job that succeeds, below a folder."""

    type: Literal["folder"]
    """folder."""
    root: Annotated[str, AfterValidator(_check_root)]
    """The folder; it must be there: a disk that isn't mounted is a failed try."""

    def put(self, key: str, content: bytes, *, is_repeat: bool, seconds: float) -> None:
        """Write the file under another name, and give it its own once the disk has it. Raises NotSent."""
        path = Path(self.root, key)
        try:
            if not os.path.isdir(self.root):
                raise FileNotFoundError(errno.ENOENT, "the sink's folder isn't there")
            if not path.parent.resolve().is_relative_to(Path(self.root).resolve()):
                raise PermissionError(errno.EACCES, "a link leads out of the sink's folder")
            if is_repeat:
                # Of a courier that was killed while it wrote this one. Only then: looking reads the whole folder.
                local_place.forget_dead(str(path))
            with local_place.writing(str(path), replace=True) as file:
                os.fchmod(file.fileno(), FILE_MODE)
                file.write(content)
        except OSError as error:
            # Without the path, which isn't the team's business.
            raise NotSent(f"{errno.errorcode.get(error.errno or 0, 'OSError')}: {error.strerror}") from error
