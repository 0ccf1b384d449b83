"""The web demo as a Hugging Face Space: a folder with everything that it needs."""

import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from string import Template

from packaging.requirements import Requirement

from ..inference import CheckpointError, MissingPackageError, OutputError, YosoError
from ..inference.checkpoint import load_checkpoint
from ..inference.errors import one_line

PACKAGE = Path(__file__).resolve().parents[1]
LEFT_OUT = ("__pycache__", "checkpoints", "assets")
"""Of the package: an installed one holds a checkpoint and a photo, and a Space has its own."""

APP = '''"""The web demo with the checkpoints and the example photos that lie in this folder."""

from pathlib import Path

from transformers_yoso.web_demo.app import build_app
from transformers_yoso.web_demo.results import load_predictors

FOLDER = Path(__file__).resolve().parent
demo = build_app(
    load_predictors(sorted((FOLDER / "checkpoints").iterdir())), sorted((FOLDER / "examples").glob("*"))
)

if __name__ == "__main__":
    demo.launch()
'''


def write_space(folder: Path, checkpoints: Sequence[str], examples: Sequence[str | Path] = ()) -> None:
    """
    Writes app, front matter, requirements, this package, checkpoints and example photos into a new folder.

    The Space gets Gradio in the version installed here, and the other packages as this package asks for them.

    Raises:
        OutputError: the folder is there already and not empty, or cannot be written.
        CheckpointError: no checkpoint folder, or one of another model.
        MissingPackageError: Gradio is not installed.
        YosoError: two checkpoint folders have the same name.
    """
    gradio_version = installed_gradio()
    names = [Path(checkpoint).name for checkpoint in checkpoints]
    if len(set(names)) < len(names):
        raise YosoError(f"The checkpoint folders of a Space need different names, but these are {', '.join(names)}.")
    for checkpoint in checkpoints:
        if not Path(checkpoint).is_dir():
            raise CheckpointError(f"A Space needs checkpoint folders, but there is no folder {checkpoint}.")
        load_checkpoint(checkpoint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OutputError(f"{folder} is not empty; name a new folder for the Space.")
        copy_files(folder, checkpoints, examples)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"Cannot write into {folder} ({one_line(error)}).") from error
    readme = Template((Path(__file__).parent / "space_readme.md").read_text(encoding="utf-8"))
    front = readme.substitute(gradio_version=gradio_version)
    (folder / "README.md").write_text(front, encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
    (folder / "app.py").write_text(APP, encoding="utf-8")


def installed_gradio() -> str:
    """Its version."""
    try:
        return version("gradio")
    except PackageNotFoundError as error:
        raise MissingPackageError("A Space needs gradio: pip install 'transformers-yoso[demo]'") from error


def copy_files(folder: Path, checkpoints: Sequence[str], examples: Sequence[str | Path]) -> None:
    """The parts that lie on this machine."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for checkpoint in checkpoints:
        shutil.copytree(checkpoint, folder / "checkpoints" / Path(checkpoint).name)
    (folder / "examples").mkdir()
    for example in examples:
        shutil.copy(example, folder / "examples")


def requirements() -> list[str]:
    """What the package asks for without extras; a Space brings Gradio itself, by the front matter's `sdk_version`."""
    needed = map(Requirement, requires("transformers-yoso") or [])
    return [str(requirement) for requirement in needed if requirement.marker is None]
