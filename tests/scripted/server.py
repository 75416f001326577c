"""The scripted server's routes, its waiting and its log."""

import asyncio
import hashlib
import json
import os
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.scripted.answers import answers
from tests.scripted.chat import completion, events, token_completion
from tests.scripted.faults import commit
from tests.scripted.http import Request, read_request, response
from tests.scripted.judging import Manner, unsupported, verdict
from tests.scripted.model import Model
from tests.scripted.revising import revision


class Accident(NamedTuple):
    """What befalls every so-many-th request for answers as tokens."""

    what: str
    """A fault; or `restart`: the weights are those from the start again, and it is answered."""
    every: int


class Script(NamedTuple):
    """How the server behaves."""

    delay_s: float
    """From a request to its answer; a streamed answer is spread over it."""
    right: float
    """Share of right answers by the weights it started from,"""
    right_after: float
    """and by a student's."""
    served: frozenset[str]
    """Model names it answers to; any name if empty."""
    key: str | None
    log: Path | None
    judge: Manner | None = None
    """How it judges, where it does."""
    opening_after: str = ""
    """What a student's answers begin with."""
    accident: Accident | None = None
    """What befalls it again and again."""
    adapters: bool = False
    """Whether it takes adapters."""


class Server:
    def __init__(self, script: Script, model: Model) -> None:
        self._script = script
        self._model = model
        self._adapters: dict[str, Model] = {}
        self._faults: Counter[str] = Counter()
        self._sampled = 0
        # Opened for appending: servers that follow each other after a kill share one log.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._log = os.open(script.log, flags, 0o644) if script.log else None

    async def connection(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one client's requests until either side hangs up."""
        try:
            while request := await read_request(reader):
                about = self._note("arrived", request)
                sent = await self._respond(request, about, reader, writer)
                self._note("answered" if sent else "gone", request, about)
                if not sent:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _respond(
        self, request: Request, about: dict[str, Any], reader: StreamReader, writer: StreamWriter
    ) -> bool:
        """Send the answer; False if it was a fault, or if nobody waits for it any more."""
        if fault := self._fault(about) or self._accident(about["body"]):
            doing = asyncio.ensure_future(commit(fault, writer))
            while not doing.done() and not reader.at_eof():
                await asyncio.wait({doing}, timeout=0.02)
            doing.cancel()
            return False
        status, answer = self._answer(request, about["body"])
        if status == 200 and about["body"].get("stream"):
            options = about["body"].get("stream_options") or {}
            pieces = events(answer, usage=bool(options.get("include_usage")))
            return await self._stream(pieces, reader, writer)
        if "choices" in answer and not await self._wait(self._script.delay_s, reader):
            return False
        writer.write(response(json.dumps(answer).encode(), status))
        await writer.drain()
        return True

    def _answer(self, request: Request, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key, served = self._script.key, self._script.served
        if request.path.startswith("/v1/") and key and request.authorization != f"Bearer {key}":
            return 401, {"error": "Unauthorized"}
        if served and body.get("model", min(served)) not in {*served, *self._adapters}:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        match request.method, request.path:
            case "GET", "/health" | "/ping":
                return 200, {}
            case "GET", "/v1/models":
                names = sorted(served or {"scripted"})
                return 200, {"data": [{"id": n, "root": str(self._model.folder)} for n in names]}
            case "POST", "/v1/chat/completions":
                manner = self._script.judge
                if manner and (missing := unsupported(body, manner)):
                    return 400, {"error": {"message": f"{missing} is not supported"}}
                if manner and (judged := verdict(body, manner)):
                    return 200, judged
                texts = revision(body) or self._answers(body)
                return 200, completion(body, texts, request.id)
            case "POST", "/v1/completions":
                return 200, self._completion(body)
            case "POST", "/collective_rpc" if body.get("method") == "reload_weights":
                taken = self._model.reload(Path(body["kwargs"]["weights_path"]))
                return (200, {"results": [None]}) if taken else (500, {"error": "no such folder"})
            case "POST", "/reset_prefix_cache":
                return 200, {}
            case "POST", "/v1/load_lora_adapter" if self._script.adapters:
                return self._load(body["lora_name"], Path(body["lora_path"]))
            case "POST", "/v1/unload_lora_adapter" if body["lora_name"] in self._adapters:
                del self._adapters[body["lora_name"]]
                return 200, {}
        return 404, {"detail": "Not Found"}

    def _load(self, name: str, folder: Path) -> tuple[int, dict[str, Any]]:
        if name in self._adapters:
            return 400, {"error": {"message": f"The lora adapter '{name}' has been loaded."}}
        self._adapters[name] = self._model.adapted(folder)
        return 200, {}

    def _asked(self, body: dict[str, Any]) -> Model:
        return self._adapters.get(str(body.get("model")), self._model)

    def _answers(self, body: dict[str, Any]) -> list[str]:
        if not self._asked(body).trained:
            return answers(body, self._script.right)
        opening = self._script.opening_after
        return [opening + text for text in answers(body, self._script.right_after)]

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("return_token_ids"):
            said = self._model.sample(body["prompt"], body["n"], body["max_tokens"])
            return token_completion(said)
        choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length"}
        if body.get("prompt_logprobs") is not None:
            tokens = body["prompt"]
            rows = zip(tokens[1:], self._asked(body).logprobs(tokens), strict=True)
            choice["prompt_logprobs"] = [None] + [
                {str(token): {"logprob": value, "rank": 1, "decoded_token": ""}}
                for token, value in rows
            ]
        return {"object": "text_completion", "choices": [choice]}

    async def _stream(
        self, pieces: list[bytes], reader: StreamReader, writer: StreamWriter
    ) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            if not await self._wait(self._script.delay_s / len(pieces), reader):
                return False
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _wait(self, seconds: float, reader: StreamReader) -> bool:
        """Let time pass as a model would; False as soon as the client has hung up."""
        end = time.monotonic() + seconds
        # The time is what we wait for, not only the client.
        while (left := end - time.monotonic()) > 0 and not reader.at_eof():  # noqa: ASYNC110
            await asyncio.sleep(min(left, 0.05))
        return not reader.at_eof()

    def _fault(self, about: dict[str, Any]) -> str | None:
        asked = [str(about["body"].get("model", ""))]
        asked += [str(turn.get("content")) for turn in about["body"].get("messages", ())[-1:]]
        found = next((one for one in asked if one.startswith("fault:")), None)
        if found is None:
            return None
        name = found.removeprefix("fault:")
        name, _, times = name.partition(":")
        self._faults[about["sha"]] += 1
        return None if times and self._faults[about["sha"]] > int(times) else name

    def _accident(self, body: dict[str, Any]) -> str | None:
        """The fault whose turn it is; other weights are had at once."""
        accident = self._script.accident
        if accident is None or not body.get("return_token_ids"):
            return None
        self._sampled += 1
        if self._sampled % accident.every:
            return None
        if accident.what != "restart":
            return accident.what
        self._model.restart()
        return None

    def _note(
        self, event: str, request: Request, about: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write a line to the log; returns what is known of the request."""
        if about is None:
            body = json.loads(request.body) if request.body else {}
            about = {"body": body, "sha": hashlib.sha256(request.body).hexdigest()}
        if self._log is not None:
            body = about["body"]
            line = {"at": time.time(), "event": event, "sha": about["sha"], "path": request.path}
            line |= {"model": body.get("model"), "n": body.get("n", 1)}
            line |= {"weights": str(self._asked(body).folder), "trace": request.trace}
            line |= {"adapter": body.get("lora_name")}
            os.write(self._log, json.dumps(line).encode() + b"\n")
        return about
