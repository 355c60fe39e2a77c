"""A small server that speaks the OpenAI chat API with vLLM's additions, for tests without vLLM.

Plain transformers answers, one request at a time. It runs in a thread of the test (`serving`), or as a process that can
be killed: ``python -m tests.server_double CHECKPOINT --port PORT``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

__all__ = ["NAME", "Refusal", "ServerDouble", "serving"]

NAME = "dualfocus-tiny"
ABILITIES = frozenset({"logprobs", "token_ids", "allowed_token_ids", "prompt_logprobs", "uuid", "continue"})
_MIB = 1 << 20


class Refusal(Exception):  # noqa: N818
    """A request that is answered with an error, as vLLM words it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(eq=False)
class ServerDouble:
    """Serves ``checkpoint`` under ``name``.

    ``abilities`` it lacks are ignored in requests, as plain APIs do, but for ``allowed_token_ids`` and
    ``prompt_logprobs``, which it refuses. While ``loading`` it answers 503.
    """

    checkpoint: Path
    root: Path | None = None
    """Where it says that it has the checkpoint from, if not from there."""
    name: str = NAME
    key: str | None = None
    abilities: frozenset[str] = ABILITIES
    most_images: int = 2
    longest: int = 2048
    """Most tokens of prompt and answer together."""
    fingerprint: str = "vllm-0.32.0-5e7f0000"
    loading: bool = False
    refused: int = 0
    """Requests while it was loading."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the chat completion requests so far."""
    answers: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    """By the digest of what was asked, so that tests that repeat a run take less time."""
    images: dict[str, Image.Image] = field(default_factory=dict)
    """By the uuid that they were sent with."""

    @property
    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * _MIB, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._complete),
                web.post("/tokenize", self._tokenize),
            ]
        )
        return app

    @cached_property
    def _processor(self) -> Any:
        return AutoProcessor.from_pretrained(self.checkpoint)

    @cached_property
    def _model(self) -> Any:
        return AutoModelForImageTextToText.from_pretrained(self.checkpoint, dtype=torch.float32).eval()

    @cached_property
    def _worker(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="double")

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.loading:
            self.refused += 1
            return web.json_response({"error": "the model is being loaded"}, status=503)
        if self.key and request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except Refusal as error:
            told = {"message": str(error), "type": "BadRequestError", "param": None, "code": error.status}
            return web.json_response({"error": told}, status=error.status)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def _models(self, request: web.Request) -> web.Response:
        root = str(self.root or self.checkpoint)
        card = {"id": self.name, "owned_by": "vllm", "root": root, "max_model_len": self.longest}
        return web.json_response({"object": "list", "data": [card]})

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        key = hashlib.sha256(await request.read()).digest()
        if key not in self.answers:
            loop = asyncio.get_running_loop()
            self.answers[key] = await loop.run_in_executor(self._worker, self.answer, body)
        return web.json_response(self.answers[key])

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "messages" in body:
            inputs, _ = self._inputs(body)
            ids = inputs["input_ids"][0].tolist()
        else:
            ids = self._tokenizer(body["prompt"], add_special_tokens=body.get("add_special_tokens", True))["input_ids"]
        return web.json_response({"tokens": ids, "count": len(ids), "max_model_len": self.longest})

    @property
    def _tokenizer(self) -> Any:
        return self._processor.tokenizer

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The chat completion. Raises ``Refusal``."""
        if body.get("model") != self.name:
            raise Refusal(404, f"The model `{body.get('model')}` does not exist. Valid aliases: {self.name}.")
        for ability in {"allowed_token_ids", "prompt_logprobs"} - self.abilities:
            if body.get(ability) is not None:
                raise Refusal(400, f"Unrecognized request argument supplied: {ability}")
        inputs, prompt = self._inputs(body)
        most = min(body.get("max_tokens") or self.longest, self.longest - len(prompt))
        if most < 1:
            raise Refusal(
                400,
                f"This model's maximum context length is {self.longest} tokens. However, your prompt contains "
                f"{len(prompt)} input tokens.",
            )
        ids, logprobs = self._generate(inputs, len(prompt), most, body)
        reply = {
            "object": "chat.completion",
            "model": self.name,
            "system_fingerprint": self.fingerprint,
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(ids), "prompt_tokens_details": None},
            "choices": [self._choice(body, ids, logprobs)],
        }
        if body.get("return_token_ids") and "token_ids" in self.abilities:
            reply["prompt_token_ids"] = prompt
        if body.get("prompt_logprobs") is not None:
            reply["prompt_logprobs"] = self._prompt_logprobs(inputs, prompt)
        return reply

    def _inputs(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """What the model takes for the messages, and the ids of the prompt."""
        images: list[Image.Image] = []
        messages = [self._message(message, images) for message in body["messages"]]
        if len(images) > self.most_images:
            raise Refusal(400, f"At most {self.most_images} image(s) may be provided in one prompt.")
        begun = ""
        if body.get("continue_final_message") and "continue" in self.abilities:
            begun = messages.pop()["content"].strip()
        text = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + begun
        inputs = self._processor(text=[text], images=images or None, return_tensors="pt")
        return dict(inputs), inputs["input_ids"][0].tolist()

    def _message(self, message: dict[str, Any], images: list[Image.Image]) -> dict[str, Any]:
        """The message as the template takes it; its images go into ``images``."""
        if isinstance(message["content"], str):
            return message
        parts = []
        for part in message["content"]:
            if part["type"] == "text":
                parts.append(part)
            else:
                images.append(self._image(part, len(images)))
                parts.append({"type": "image"})
        return {"role": message["role"], "content": parts}

    def _image(self, part: dict[str, Any], index: int) -> Image.Image:
        uuid = part.get("uuid") if "uuid" in self.abilities else None
        if part["image_url"] is None:
            if uuid not in self.images:
                raise Refusal(400, f"Cache miss for image at index {index} but data is not provided.")
            return self.images[uuid]
        data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
        image = Image.open(io.BytesIO(data)).convert("RGB")
        if uuid:
            self.images[uuid] = image
        return image

    @torch.inference_mode()
    def _generate(
        self, inputs: dict[str, Any], length: int, most: int, body: dict[str, Any]
    ) -> tuple[list[int], list[torch.Tensor]]:
        """The answer's ids, and at each the log-probabilities of the whole vocabulary."""
        allowed = body.get("allowed_token_ids")
        more: dict[str, Any] = {}
        if body.get("repetition_penalty"):
            more["repetition_penalty"] = float(body["repetition_penalty"])
        if allowed:
            more["prefix_allowed_tokens_fn"] = lambda batch, ids: allowed
        if body.get("stop"):
            more |= {"stop_strings": body["stop"], "tokenizer": self._tokenizer}
        found = self._model.generate(
            **inputs,
            **more,
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=self._tokenizer.eos_token_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        ids = found.sequences[0, length:].tolist()
        return ids, [torch.log_softmax(logits[0].float(), dim=-1) for logits in found.logits]

    def _choice(self, body: dict[str, Any], ids: list[int], logprobs: list[torch.Tensor]) -> dict[str, Any]:
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        cut = [place for place in (text.find(stop) for stop in body.get("stop") or []) if place >= 0]
        ends = self._model.generation_config.eos_token_id
        ended = bool(ids) and ids[-1] in (ends if isinstance(ends, list) else [ends])
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text[: min(cut)] if cut else text},
            "finish_reason": "stop" if ended or cut else "length",
            "stop_reason": text[min(cut) :] if cut and not ended else None,
        }
        if body.get("logprobs") and "logprobs" in self.abilities:
            as_ids = bool(body.get("return_tokens_as_token_ids")) and "token_ids" in self.abilities
            steps = [
                self._step(token, values, body.get("top_logprobs", 0), as_ids)
                for token, values in zip(ids, logprobs, strict=True)
            ]
            choice["logprobs"] = {"content": steps}
        if body.get("return_token_ids") and "token_ids" in self.abilities:
            choice["token_ids"] = ids
        return choice

    def _step(self, token: int, values: torch.Tensor, likeliest: int, as_ids: bool) -> dict[str, Any]:
        def named(number: int) -> dict[str, Any]:
            name = f"token_id:{number}" if as_ids else self._tokenizer.decode([number])
            return {"token": name, "logprob": values[number].item()}

        # As vLLM: the chosen token first, even where others are likelier.
        top = dict.fromkeys([token, *values.topk(max(likeliest, 1)).indices.tolist()])
        return named(token) | {"top_logprobs": [named(number) for number in [*top][:likeliest]]}

    @torch.inference_mode()
    def _prompt_logprobs(self, inputs: dict[str, Any], prompt: Sequence[int]) -> list[dict[str, Any] | None]:
        values = torch.log_softmax(self._model(**inputs).logits[0].float(), dim=-1)
        entries: list[dict[str, Any] | None] = [None]
        for row, token in zip(values[:-1], prompt[1:], strict=True):
            rank = int((row > row[token]).sum()) + 1
            entries.append({str(token): {"logprob": row[token].item(), "rank": rank}})
        return entries


@asynccontextmanager
async def site(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """The address at which ``app`` is served; any free port with 0."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextmanager
def serving(app: web.Application, port: int = 0) -> Iterator[str]:
    """The address at which ``app`` is served, in a thread, until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server double", daemon=True)
    thread.start()
    context = site(app, port)
    try:
        yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)

    async def serve() -> None:
        async with site(ServerDouble(given.checkpoint).app, given.port) as address:
            print(address, flush=True)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
