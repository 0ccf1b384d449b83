"""The Hub's upload as a copy into a local folder."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from huggingface_hub.utils import filter_repo_objects


class LocalHub:
    """Stands in for `HfApi`; `repositories` is where the uploads go, set by the test."""

    repositories: Path

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        repo_id = repo_id if "/" in repo_id else f"user/{repo_id}"
        (self.repositories / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(
        self,
        repo_id: str,
        folder_path: str | Path,
        commit_message: str,
        allow_patterns: list[str] | None = None,
        ignore_patterns: list[str] | None = None,
    ) -> Any:
        folder, target = Path(folder_path), self.repositories / repo_id
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
        return target
