"""Fetches Transformers' common model, config and processor tests at the installed version into `.cache/`.

The wheel of transformers has no tests, its source archive has: pip downloads that one and the few files the mixins
consist of are unpacked. Parts of Transformers' test tree that the archive lacks are replaced by small stand-ins.
"""

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "transformers-tests"
PACKAGE = "transformers_common_tests"
WANTED = ("test_modeling_common.py", "test_configuration_common.py", "test_image_processing_common.py")
STAND_INS = {
    # Tests of torch.export and of text generation, mixed into every model's tests; YOSO does not generate.
    f"{PACKAGE}/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    f"{PACKAGE}/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    # Only read for configs without sub-configs; YosoConfig has `backbone_config`.
    f"{PACKAGE}/utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
    # Photos come from the Hub there; tests/common puts local ones in their place.
    "utils/fetch_hub_objects_for_ci.py": (
        'def url_to_local_path(url):\n    raise RuntimeError(f"{url} would be fetched from the Hub in a test")\n'
    ),
}


def fetch_common_tests(release: str) -> Path:
    """The folder with the common tests of a release of transformers, downloaded the first time."""
    folder = CACHE / release
    for name, text in STAND_INS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for package in (PACKAGE, f"{PACKAGE}/exporters", f"{PACKAGE}/generation", f"{PACKAGE}/utils"):
        (folder / package / "__init__.py").touch()
    if not (folder / ".complete").exists():
        with tempfile.TemporaryDirectory() as download:
            unpack_tests(download_source_archive(release, Path(download)), folder / PACKAGE)
        (folder / ".complete").touch()
    return folder


def download_source_archive(release: str, folder: Path) -> Path:
    """Lets pip fetch transformers-<release>.tar.gz from wherever it is set up to fetch packages from."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "transformers", "--dest", str(folder), f"transformers=={release}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    archives = list(folder.glob("transformers-*.tar.gz"))
    if done.returncode or not archives:
        sys.exit(
            f"error: pip could not fetch the source archive of transformers {release}, which holds the common tests.\n"
            f"Is a package index reachable, and is this a released version? pip said:\n{done.stdout}{done.stderr}"
        )
    return archives[0]


def unpack_tests(archive: Path, target: Path) -> None:
    """Writes the wanted test files of a source archive into `target`."""
    with tarfile.open(archive) as source:
        members = {member.name.split("/", 1)[-1]: member for member in source.getmembers()}
        for name in WANTED:
            member = members.get(f"tests/{name}")
            content = source.extractfile(member) if member else None
            if content is None:
                sys.exit(f"error: {archive.name} holds no tests/{name}; the common tests have moved in this release.")
            (target / name).write_bytes(content.read())


if __name__ == "__main__":
    print(fetch_common_tests(version("transformers")))
