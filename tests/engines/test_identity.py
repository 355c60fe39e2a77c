"""The identity of a checkpoint: what changes it, what does not, and what it costs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.common.files import sha256_of
from dualfocus_eval.engines import identity, weights_digest
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.identity import checkpoint_digest, checkpoint_name, digest_in_memory, engine_digest
from measurements.random_models import build
from tests.engines.checkpoint_changes import CHANGES, HARMLESS, Change, byte, configuration, weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weights_digest, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to be changed."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_can_change_an_answer_changes_the_digest(folder: Path, change: Change) -> None:
    before = checkpoint_digest(str(folder))
    change(folder)
    assert checkpoint_digest(str(folder)) != before


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_cannot_change_an_answer_does_not_change_the_digest(folder: Path, change: Change) -> None:
    before = checkpoint_digest(str(folder))
    change(folder)
    now = folder if folder.exists() else folder.with_name("renamed")
    assert checkpoint_digest(str(now)) == before


def test_a_key_that_says_nothing_in_a_configuration_is_a_token_of_a_vocabulary(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["transformers_version"] = 468
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    before = checkpoint_digest(str(folder))
    tokenizer["model"]["vocab"]["transformers_version"] = 469
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert checkpoint_digest(str(folder)) != before


def test_code_counts_where_it_is_run(folder: Path) -> None:
    digests = {checkpoint_digest(str(folder), trust_remote_code=True)}
    for text in ("a = 1", "a = 2"):
        (folder / "code").mkdir(exist_ok=True)
        (folder / "code" / "modeling.py").write_text(text)
        digests.add(checkpoint_digest(str(folder), trust_remote_code=True))
    assert len(digests) == 3


def test_shards_in_folders_of_their_own_count(folder: Path) -> None:
    (folder / "shards").mkdir()
    (folder / "model.safetensors").rename(folder / "shards" / "one.safetensors")
    index = {"weight_map": {"a": "shards/one.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = checkpoint_digest(str(folder))
    byte(-1, "shards/one.safetensors")(folder)
    assert checkpoint_digest(str(folder)) != before


@pytest.fixture(scope="module")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A low-rank adapter that brings token embeddings along."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(
        r=2, lora_alpha=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"], init_lora_weights=False
    )
    place = tmp_path_factory.mktemp("adapter") / "tiny-lora"
    get_peft_model(build("llava")[0], config).save_pretrained(place)
    return place


LORA = "base_model.model.model.language_model"
ADAPTER_CHANGES: dict[str, Change] = {
    "last weight byte": byte(-1, "adapter_model.safetensors"),
    "scale": configuration("adapter_config.json", lora_alpha=8),
    "one adapted weight": weights(
        lambda tensors: tensors[f"{LORA}.layers.2.self_attn.q_proj.lora_B.weight"][63, 1].add_(1),
        "adapter_model.safetensors",
    ),
    "a token's embedding": weights(
        lambda tensors: tensors[f"{LORA}.embed_tokens.weight"][400].zero_(), "adapter_model.safetensors"
    ),
}


@pytest.mark.parametrize("change", ADAPTER_CHANGES.values(), ids=ADAPTER_CHANGES.keys())
def test_what_changes_an_adapter_changes_the_digest(
    checkpoint: Path, adapter: Path, tmp_path: Path, change: Change
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    digests = {checkpoint_digest(str(checkpoint)), checkpoint_digest(str(checkpoint), peft=str(copy))}
    change(copy)
    digests.add(checkpoint_digest(str(checkpoint), peft=str(copy)))
    assert len(digests) == 3


def test_an_adapter_is_the_same_wherever_it_and_its_base_were_saved(
    checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "another name"))
    configuration("adapter_config.json", base_model_name_or_path="/elsewhere", peft_version="0.1.0")(copy)
    assert checkpoint_digest(str(checkpoint), peft=str(copy)) == checkpoint_digest(str(checkpoint), peft=str(adapter))


def test_options_that_change_the_image_change_the_engine_s_digest(checkpoint: Path) -> None:
    plain = engine_digest(EngineConfig(str(checkpoint)))
    padded = engine_digest(EngineConfig(str(checkpoint), image_aspect="pad"))
    limited = {engine_digest(EngineConfig(str(checkpoint), **{name: 9})) for name in ("min_pixels", "max_pixels")}  # type: ignore[arg-type]
    assert plain == checkpoint_digest(str(checkpoint))
    assert len({plain, padded, *limited}) == 4
    assert engine_digest(EngineConfig(str(checkpoint), max_conversations=3, prefix_cache_gib=0, device="cpu")) == plain


def test_the_name_says_folder_revision_and_adapter(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoint_name(EngineConfig("owner/model", revision="v2", peft="other/lora")) == "model@v2+lora"
    monkeypatch.chdir(checkpoint)
    assert checkpoint_name(EngineConfig(".")) == "tiny-llava"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The weight files that were read from their first byte to their last."""
    read: list[Path] = []

    def noting(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(weights_digest, "sha256_of", noting)
    return read


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the test were written long ago."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10**11)


@pytest.mark.usefixtures("later")
def test_weights_are_read_once(folder: Path, hashed: list[Path]) -> None:
    first = checkpoint_digest(str(folder))
    assert [checkpoint_digest(str(folder)) for _ in range(3)] == [first] * 3
    assert len(hashed) == 1


@pytest.mark.usefixtures("later")
def test_weights_of_the_same_size_and_time_are_read_again(folder: Path) -> None:
    path = folder / "model.safetensors"
    before, times = checkpoint_digest(str(folder)), path.stat()
    byte(-1)(folder)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert checkpoint_digest(str(folder)) != before


def test_a_digest_of_a_file_just_written_is_not_kept(folder: Path, hashed: list[Path]) -> None:
    (folder / "model.safetensors").touch()
    checkpoint_digest(str(folder))
    checkpoint_digest(str(folder))
    assert len(hashed) == 2


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("content", ["", "[]", '{"state": 1}', "\xff"])
def test_a_damaged_memory_is_no_obstacle(folder: Path, cache: Path, hashed: list[Path], content: str) -> None:
    before = checkpoint_digest(str(folder))
    (memory,) = cache.rglob("*.json")
    memory.write_bytes(content.encode("latin-1"))
    assert checkpoint_digest(str(folder)) == before
    assert len(hashed) == 2


def test_without_a_cache_directory_it_works_too(folder: Path, cache: Path) -> None:
    cache.write_text("no folder")
    assert checkpoint_digest(str(folder)) == checkpoint_digest(str(folder))


def test_a_checkpoint_that_is_being_written_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> str:
        byte(-1)(folder)
        return sha256_of(path)

    monkeypatch.setattr(weights_digest, "sha256_of", interrupted)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: written to while it was read"):
        checkpoint_digest(str(folder))


def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(identity, "sha256_of", refuse)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        checkpoint_digest(str(folder))


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that lays a folder out as a repository of the hub's local cache; it returns the snapshot."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def lay_out(name: str, source: Path, revision: str = "main", commit: str = COMMIT) -> Path:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / commit
        for place in (snapshot, repository / "blobs", repository / "refs"):
            place.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
        for path in source.iterdir():
            digest = sha256_of(path)
            blob = digest if path.suffix == ".safetensors" else digest[:40]  # small files have git's digests
            shutil.copyfile(path, repository / "blobs" / blob)
            (snapshot / path.name).symlink_to(f"../../blobs/{blob}")
        return snapshot

    return lay_out


@pytest.mark.usefixtures("later")
def test_the_hub_s_own_digests_are_used(repository: Callable[..., Path], checkpoint: Path, hashed: list[Path]) -> None:
    repository("owner/tiny", checkpoint)
    of_hub = checkpoint_digest("owner/tiny")
    assert checkpoint_digest("owner/tiny", COMMIT) == of_hub
    assert hashed == []
    assert checkpoint_digest(str(checkpoint)) == of_hub
    assert len(hashed) == 1


def test_another_revision_is_another_checkpoint(
    repository: Callable[..., Path], checkpoint: Path, folder: Path
) -> None:
    repository("owner/tiny", checkpoint)
    byte(-1)(folder)
    repository("owner/tiny", folder, "v2", COMMIT[::-1])
    assert checkpoint_digest("owner/tiny", "v2") == checkpoint_digest(str(folder))
    assert checkpoint_digest("owner/tiny", "v2") != checkpoint_digest("owner/tiny")


def test_a_blob_written_to_after_its_download_is_hashed(
    repository: Callable[..., Path], checkpoint: Path, hashed: list[Path]
) -> None:
    snapshot = repository("owner/tiny", checkpoint)
    before = checkpoint_digest("owner/tiny")
    byte(-1)(snapshot)  # through the link, as save_pretrained into a snapshot writes
    assert checkpoint_digest("owner/tiny") != before
    assert len(hashed) == 1


def test_an_adapter_s_repository_brings_its_base_along(
    repository: Callable[..., Path], checkpoint: Path, adapter: Path
) -> None:
    base = repository("owner/tiny", checkpoint)
    alone = Path(shutil.copytree(adapter, checkpoint.parent / "alone", dirs_exist_ok=True))
    configuration("adapter_config.json", base_model_name_or_path="owner/tiny")(alone)
    repository("other/lora", alone)
    before = checkpoint_digest("other/lora")
    byte(-1)(base)
    assert checkpoint_digest("other/lora") != before


def test_what_is_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match="nobody/nothing: no such folder"):
        checkpoint_digest("nobody/nothing")


def test_a_model_in_memory_is_hashed_whole() -> None:
    model, processor = build("llava")
    before = digest_in_memory(model, processor)
    assert digest_in_memory(*build("llava")) == before
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        embedding[401, 7] += 1
        changed = digest_in_memory(model, processor)
        embedding[401, 7] -= 1
    processor.num_additional_image_tokens = 0
    assert len({before, changed, digest_in_memory(model, processor), digest_in_memory(*build("llava", seed=1))}) == 4
    assert digest_in_memory(*build("llava", torch.bfloat16)) != before
