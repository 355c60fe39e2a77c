"""The original's tokenizer as one tokenizer.json, with the same token ids for the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import AddedToken, LlamaTokenizer, PreTrainedTokenizerFast

from dualfocus_eval.common.errors import CheckpointError, UserError, first_line
from dualfocus_eval.convert.source import SourceCheckpoint
from dualfocus_eval.engines.checkpoint_files import read_json

__all__ = ["IMAGE_TOKEN", "build_tokenizer", "image_gap"]

IMAGE_TOKEN = "<image>"
_PAD_TOKEN = "<pad>"


def build_tokenizer(source: SourceCheckpoint) -> PreTrainedTokenizerFast:
    """The checkpoint's tokenizer, with ``<image>`` and ``<pad>`` added where it lacks them.

    From tokenizer.model where there is one, as the original code reads no other. Raises ``UserError`` where
    sentencepiece is needed and not installed, ``CheckpointError`` for a tokenizer that does not fit.
    """
    folder = source.folder
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    try:
        original = _original(folder, settings)
    except UserError:
        raise
    except Exception as error:  # damaged files provoke errors of every kind in transformers and tokenizers
        raise CheckpointError(
            f"{folder}: the tokenizer's files cannot be used: {first_line(error)}; download them again"
        ) from error
    if (original.bos_token, original.eos_token) != ("<s>", "</s>"):
        raise CheckpointError(
            f"{folder}: the tokenizer begins texts with {original.bos_token!r} and ends them with "
            f"{original.eos_token!r}; only vicuna_v1 conversations can be converted, which use '<s>' and '</s>'"
        )
    if original.vocab_size > source.config["vocab_size"]:
        raise CheckpointError(
            f"{folder}: the tokenizer has {original.vocab_size} tokens, but config.json's vocab_size is "
            f"{source.config['vocab_size']}; get both from the same release"
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=original.backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token=original.unk_token,
        padding_side="left",
        model_max_length=settings.get("model_max_length", source.config.get("tokenizer_model_max_length", 2048)),
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
    )
    tokenizer.add_special_tokens({"pad_token": AddedToken(_PAD_TOKEN, special=True, normalized=False)})
    return tokenizer


def image_gap(tokenizer: PreTrainedTokenizerFast) -> str:
    """What a prompt needs between an image and the line break after it for the original's token ids.

    The original tokenizes the text after an image on its own, as the beginning of a text, which most tokenizers mark
    with a space. Raises ``CheckpointError`` where neither a space nor nothing gives the same.
    """
    text = "\nWhat is this?"
    expected = tokenizer(text, add_special_tokens=False)["input_ids"]
    for gap in ("", " "):
        ids = tokenizer(f"USER: {IMAGE_TOKEN}{gap}{text}", add_special_tokens=False)["input_ids"]
        if ids[ids.index(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)) + 1 :] == expected:
            return gap
    raise CheckpointError("the tokenizer reads the text after an image otherwise than the same text alone")


def _original(folder: Path, settings: Mapping[str, Any]) -> Any:
    if (folder / "tokenizer.model").is_file():
        return _from_sentencepiece(folder, settings)
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    raise CheckpointError(f"{folder}: no tokenizer; tokenizer.model or tokenizer.json is needed beside the weights")


def _from_sentencepiece(folder: Path, settings: Mapping[str, Any]) -> LlamaTokenizer:
    path = folder / "tokenizer.model"
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise UserError(f"{path}: sentencepiece is needed to read it; pip install sentencepiece") from None
    try:
        pieces = SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a SentencePiece model, or damaged; download it again") from error
    vocabulary = {pieces.id_to_piece(number): number for number in range(len(pieces))}
    # Where nothing is said, the original's version of transformers puts a space before every piece of text.
    legacy = settings.get("legacy")
    tokenizer = LlamaTokenizer(
        vocab=vocabulary,
        merges=_merges(pieces, vocabulary),
        legacy=True if legacy is None else legacy,
        unk_token=pieces.id_to_piece(pieces.unk_id()),
        bos_token=pieces.id_to_piece(pieces.bos_id()),
        eos_token=pieces.id_to_piece(pieces.eos_id()),
    )
    for number, token in sorted(_added_tokens(folder, settings).items()):
        if number < len(pieces):
            continue
        if number != len(tokenizer):
            raise CheckpointError(f"{folder}: added token {token.content!r} has id {number}, expected {len(tokenizer)}")
        tokenizer.add_tokens([token])
    begin = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.bos_token_id)]
    )
    return tokenizer


def _merges(pieces: Any, vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a third, the likeliest result first: the order in which SentencePiece merges."""
    plain = [
        (piece, number)
        for piece, number in vocabulary.items()
        if not (pieces.is_control(number) or pieces.is_unknown(number) or pieces.is_byte(number))
    ]
    plain.sort(key=lambda item: -pieces.get_score(item[1]))
    pairs = ((piece[:cut], piece[cut:]) for piece, _ in plain for cut in range(1, len(piece)))
    return [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]


def _added_tokens(folder: Path, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Tokens beyond tokenizer.model's by id, from both places where versions of transformers wrote them."""
    added = {}
    if (folder / "added_tokens.json").is_file():
        for content, number in read_json(folder / "added_tokens.json").items():
            added[int(number)] = AddedToken(content, special=True, normalized=False)
    for number, token in settings.get("added_tokens_decoder", {}).items():
        added[int(number)] = AddedToken(token["content"], special=token.get("special", True), normalized=False)
    return added
