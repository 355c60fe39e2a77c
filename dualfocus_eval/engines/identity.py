"""The identity of a checkpoint: a digest of every file that can change an answer.

Everything in the folder counts, except what is known never to reach an answer (`_UNREAD`). A file of an unknown kind
may therefore cost a recomputation, but never a stale answer. Folder names and file times do not count. Nothing is
sampled. This module imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.common.files import sha256_of
from dualfocus_eval.engines.config import IMAGE_OPTIONS, EngineConfig
from dualfocus_eval.engines.weights_digest import weights_digest

__all__ = ["checkpoint_digest", "checkpoint_name", "digest_in_memory", "engine_digest", "processor_digest"]

_UNREAD = re.compile(
    r"\..*"  # hidden files: .gitattributes, the hub client's notes
    r"|(README|LICENSE|NOTICE|USE_POLICY)(\..*)?"
    r"|.*\.(md|png|jpe?g|gif|webp|svg|pdf|log|lock|partial)"
    # Weights in formats that are refused or not looked for: only safetensors are loaded, but for adapters on the hub.
    r"|(?!adapter_model\.).*\.(bin|bin\.index\.json|pt|pth|ckpt|gguf|onnx|h5|msgpack)"
    # What training leaves behind.
    r"|(trainer_state|training|manifest|stage|modelcard|(all|train|eval)_results)\.json|events\.out\.tfevents.*|complete"
    # Its inference settings are resolved into the run's settings, which have a key of their own. A calibrated choice
    # picks among answers, and names the checkpoint by this very digest.
    r"|(dualfocus|calibration)\.json",
    re.IGNORECASE,
)
"""Names of files that cannot change an answer."""

_IRRELEVANT = frozenset(
    {
        # Versions of the packages that wrote the file. Those that compute are in the arithmetic part of the stored key.
        "transformers_version",
        "peft_version",
        # Where the checkpoint lay when it was written.
        "_name_or_path",
        "name_or_path",
        "_commit_hash",
        # How it was read at that time; both are overwritten on loading.
        "is_local",
        "local_files_only",
        # An adapter's note of the base that it was trained on. What it is merged into has a digest of its own.
        "base_model_name_or_path",
    }
)
"""Keys of configuration files that cannot change an answer, at any depth."""

_ADAPTER = "adapter_config.json"
_TEMPLATES = "additional_chat_templates"


def checkpoint_digest(
    pretrained: str, revision: str | None = None, peft: str | None = None, *, trust_remote_code: bool = False
) -> str:
    """32 hexadecimal digits that stand for the content of a checkpoint and of the adapter ``peft`` on top of it.

    Both are folders or hub ids; of a hub id the local snapshot is read, so load the checkpoint first. Python files
    count only with ``trust_remote_code``, and only those of the checkpoint itself.

    Every weight file is hashed once and remembered in the user's cache directory, by path, size, inode and times. For
    a checkpoint of 14 GB the first time costs some 13 s of one core (1.1 GB/s with SHA-256; files are hashed in
    parallel), later times some milliseconds. In the hub's cache weight files are named by their SHA-256, and cost
    nothing.

    Raises ``CheckpointError`` for a file that cannot be read, or that is written to meanwhile.
    """
    parts = {"checkpoint": _folder(pretrained, revision)}
    if not Path(pretrained).is_dir() and (base := _base_of(parts["checkpoint"])):
        parts["base"] = _folder(base, None)
    if peft is not None:
        parts["adapter"] = _folder(peft, None)
    return _combined(_file_digests(parts, trust_remote_code))


def engine_digest(config: EngineConfig) -> str:
    """`checkpoint_digest` of what ``config`` names, joined with those image options that are not the defaults."""
    digest = checkpoint_digest(
        config.pretrained, config.revision, config.peft, trust_remote_code=config.trust_remote_code
    )
    defaults = EngineConfig(config.pretrained)
    given = {name: getattr(config, name) for name in IMAGE_OPTIONS}
    options = {name: str(value) for name, value in given.items() if value != getattr(defaults, name)}
    return _combined({"checkpoint": digest, **options}) if options else digest


def checkpoint_name(config: EngineConfig) -> str:
    """What to call the checkpoint: its folder's or repository's name, revision and adapter. No part of its identity."""
    name = _last_name(config.pretrained) + (f"@{config.revision}" if config.revision else "")
    return f"{name}+{_last_name(config.peft)}" if config.peft else name


def digest_in_memory(model: Any, processor: Any) -> str:
    """The same for a transformers model that no folder holds: all its weights are hashed, at every call.

    It is never equal to the digest of the files that the model is saved to. Of a model whose weights are spread over
    processes, each process sees its own share.
    """
    digests = {
        name: _sha256(_relevant(config.to_json_string().encode()))
        for name, config in (("config", model.config), ("generation_config", model.generation_config))
    }
    digests |= _processor_digests(processor)
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        digests[f"weights/{name}"] = _sha256(*_bytes_of(weight))
    return _combined(digests)


def processor_digest(processor: Any) -> str:
    """32 hexadecimal digits that stand for a processor: its tokenizer, chat template and image settings."""
    return _combined(_processor_digests(processor))


def _processor_digests(processor: Any) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        return _file_digests({"processor": Path(folder)}, code=False)


def _last_name(place: str) -> str:
    return Path(os.path.abspath(place)).name if Path(place).is_dir() else Path(place).name


def _folder(place: str, revision: str | None) -> Path:
    """The folder ``place``, or the local snapshot of the hub repository of that name."""
    if Path(place).is_dir():
        return Path(place)
    from transformers.utils import cached_file

    for name in ("config.json", _ADAPTER):
        with suppress(OSError, ValueError):
            if found := cached_file(
                place,
                name,
                revision=revision,
                local_files_only=True,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            ):
                return Path(found).parent
    raise CheckpointError(
        f"{place}: no such folder, and no such repository in the hub's local cache; give a folder, or load it first"
    )


def _base_of(snapshot: Path) -> str | None:
    """The repository whose weights transformers loads for a hub id that is an adapter's; None for any other."""
    try:
        return str(json.loads((snapshot / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file_digests(parts: Mapping[str, Path], code: bool) -> dict[str, str]:
    """Digests by part and name of all files that count in the folders ``parts``."""
    files = {
        f"{part}/{path.relative_to(folder).as_posix()}": path
        for part, folder in parts.items()
        for path in _files(folder, code)
    }
    try:
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            return dict(zip(files, pool.map(_file_digest, files.values()), strict=True))
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _files(folder: Path, code: bool) -> set[Path]:
    of_any_kind = {path for path in folder.iterdir() if path.suffix != ".py" and not _UNREAD.fullmatch(path.name)}
    known = {*_shards(folder), *(folder / _TEMPLATES).glob("*.jinja"), *(folder.rglob("*.py") if code else ())}
    return {path for path in of_any_kind | known if path.is_file()}


def _shards(folder: Path) -> Iterable[Path]:
    """The weight files that indices name: they may lie in folders of their own."""
    for index in folder.glob("*.safetensors.index.json"):
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):  # the loader says what is wrong
            named = json.loads(index.read_bytes())["weight_map"].values()
            yield from (folder / str(name) for name in named if ".." not in Path(str(name)).parts)


def _file_digest(path: Path) -> str:
    if path.name.endswith("config.json"):
        return _sha256(_relevant(path.read_bytes()))
    # Vocabularies and templates count byte by byte: any key of theirs may be a token, and white space is text.
    return weights_digest(path) if path.suffix == ".safetensors" else sha256_of(path)


def _relevant(content: bytes) -> bytes:
    """A configuration in one canonical form, without what cannot change an answer."""
    try:
        return json.dumps(_without_irrelevant(json.loads(content)), sort_keys=True).encode()
    except (ValueError, RecursionError):  # not JSON, which the loader refuses with the reason
        return content


def _without_irrelevant(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_irrelevant(item) for name, item in value.items() if name not in _IRRELEVANT}
    return [_without_irrelevant(item) for item in value] if isinstance(value, list) else value


def _bytes_of(weight: Any) -> tuple[bytes, Any]:
    """Type and shape of a weight, and its bytes (this process's share of them)."""
    import torch

    local = weight.to_local() if hasattr(weight, "to_local") else weight
    flat = local.detach().cpu().contiguous().reshape(-1)
    header = f"{weight.dtype} {tuple(weight.shape)}".encode()
    return header, flat.view(torch.uint8).numpy() if flat.numel() else b""


def _sha256(*pieces: Any) -> str:
    content = hashlib.sha256()
    for piece in pieces:
        content.update(piece)
    return content.hexdigest()


def _combined(digests: Mapping[str, str]) -> str:
    return _sha256(json.dumps(dict(digests), sort_keys=True).encode())[:32]
