"""The server double in the formats that SGLang documents. No SGLang server has been asked what it really sends."""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import dataclass, field
from typing import Any

import torch
from aiohttp import web
from PIL import Image

from tests.server_double import ServerDouble

__all__ = ["SGLangDouble"]


@dataclass(eq=False)
class SGLangDouble(ServerDouble):
    """SGLang's chat completions, ``/generate`` and ``/server_info``; nothing of what only vLLM knows."""

    parent: str | None = None
    """Of the model, where it is an adapter."""
    generated: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the requests to ``/generate``."""
    damage: dict[str, Any] = field(default_factory=dict)
    """Replaces parts of ``meta_info`` in the replies of ``/generate`` that have log-probabilities."""

    @property
    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/server_info", self._info),
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._complete),
                web.post("/generate", self._native),
            ]
        )
        return app

    async def _info(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.5.23", "tp_size": 1, "model_path": str(self.checkpoint)})

    async def _models(self, request: web.Request) -> web.Response:
        card = {"id": self.name, "object": "model", "created": 1, "owned_by": "sglang", "root": str(self.checkpoint)}
        card |= {"parent": self.parent, "max_model_len": self.longest}
        return web.json_response({"object": "list", "data": [card]})

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The chat completion. Raises ``Refusal``."""
        unknown = {"allowed_token_ids", "prompt_logprobs", "return_tokens_as_token_ids"} & set(body)
        assert not unknown, f"only vLLM knows {unknown}"
        reply = super().answer(body | {"return_token_ids": True, "logprobs": True})
        (choice,) = reply["choices"]
        prompt, ids, logprobs = reply.pop("prompt_token_ids"), choice.pop("token_ids"), choice["logprobs"]["content"]
        stop = choice.pop("stop_reason")
        choice["matched_stop"] = stop or (ids[-1] if choice["finish_reason"] == "stop" else None)
        if not body.get("logprobs"):
            choice["logprobs"] = None
        if body.get("return_prompt_token_ids"):
            choice["prompt_token_ids"] = prompt
        if body.get("return_meta_info"):
            triples = [[step["logprob"], token, step["token"]] for step, token in zip(logprobs, ids, strict=True)]
            choice["meta_info"] = {"output_token_logprobs": triples, "prompt_tokens": len(prompt)}
        del reply["system_fingerprint"]
        return reply | {"metadata": {"weight_version": "default"}}

    async def _native(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.generated.append(body)
        return web.json_response(
            await asyncio.get_running_loop().run_in_executor(self._worker, self._native_answer, body)
        )

    @torch.inference_mode()
    def _native_answer(self, body: dict[str, Any]) -> dict[str, Any]:
        images = [_decoded(url) for url in body["image_data"]]
        inputs = dict(self._processor(text=[body["text"]], images=images or None, return_tensors="pt"))
        prompt = inputs["input_ids"][0].tolist()
        values = torch.log_softmax(self._model(**inputs).logits[0].float(), dim=-1)
        meta: dict[str, Any] = {"prompt_tokens": len(prompt), "completion_tokens": 1, "cached_tokens": 0}
        if body.get("return_logprob"):
            begin = body["logprob_start_len"]
            places = range(begin + 1, len(prompt))
            told = [[values[place - 1, prompt[place]].item(), prompt[place], None] for place in places]
            best = [[[row.max().item(), int(row.argmax()), None]] for row in values[begin:-1]]
            meta["input_token_logprobs"] = [[None, prompt[begin], None], *told]
            meta["input_top_logprobs"] = [None, *best]
            meta |= self.damage
        reply: dict[str, Any] = {"text": "x", "output_ids": [1], "meta_info": meta}
        return reply | ({"prompt_token_ids": prompt} if body.get("return_prompt_token_ids") else {})


def _decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))).convert("RGB")
