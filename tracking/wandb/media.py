"""Turns tables, charts, images and pages that a run logged into the SDK's own objects."""

import shutil
from pathlib import Path
from typing import Any

from tracking.blobs import Blobs
from tracking.interface import Media


def sdk_object(media: Media, blobs: Blobs, folder: Path) -> Any:
    """Returns a `wandb.Table`, line chart, image or page; the SDK reads files from copies in `folder`."""
    import wandb

    content = media.content
    if media.kind == "table":
        return wandb.Table(columns=content["columns"], data=content["rows"], allow_mixed_types=True)
    if media.kind == "lines":
        names = list(content["lines"])
        values = [content["lines"][name] for name in names]
        return wandb.plot.line_series(content["x"], values, keys=names, title=content["title"], xname=content["x_name"])
    assert media.file is not None
    suffix = {"image": ".png", "html": ".html"}[media.kind]
    path = folder / f"{blobs.path(media.file.md5).name}{suffix}"
    shutil.copyfile(blobs.path(media.file.md5), path)
    return wandb.Image(str(path)) if media.kind == "image" else wandb.Html(str(path), inject=False)
