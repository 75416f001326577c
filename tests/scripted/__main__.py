"""Command line of the scripted server. Flags of vLLM's that mean nothing here are ignored."""

import argparse
import asyncio
import os
from pathlib import Path

from tests.scripted.judging import Manner
from tests.scripted.model import Model
from tests.scripted.server import Accident, Script, Server


async def serve(host: str, port: int, server: Server) -> None:
    listening = await asyncio.start_server(server.connection, host, port, backlog=1024)
    print(f"listening on {listening.sockets[0].getsockname()[1]}", flush=True)
    await listening.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scripted", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed")
    parser.add_argument("--model", type=Path, default=Path("/nowhere"), help="folder of weights")
    parser.add_argument("--served-model-name", nargs="*", default=[])
    parser.add_argument("--delay-ms", type=float, default=0.0, help="from request to answer")
    parser.add_argument("--right", type=float, default=0.5, help="share of right answers")
    parser.add_argument("--right-after", type=float, default=0.9, help="the same for a student")
    parser.add_argument("--opening-after", default="", help="a student's answers begin with it")
    parser.add_argument("--log", type=Path, help="one line for each request and each answer")
    parser.add_argument("--probes", type=Path, help="folder in which probe.json files lie")
    parser.add_argument("--enable-lora", action="store_true", help="take adapters")
    parser.add_argument("--no-lora", action="store_true", help="take none all the same")
    parser.add_argument("--stuck", action="store_true", help="keep the old weights, and say yes")
    parser.add_argument("--opened", action="store_true", help="speak by the weights: opened.py")
    parser.add_argument("--off", type=float, default=0.0, help="nats: see opened.py")
    parser.add_argument("--accident", default="", help="FAULT:K or restart:K, see server.py")
    parser.add_argument("--judge", default="", help="answer judge prompts: see judging.py")
    parser.add_argument("--judge-outside", type=float, default=0.0, help="mass on other tokens")
    for field in ("logprobs", "choice", "schema"):
        parser.add_argument(f"--no-{field}", action="store_true", help="refuse such requests")
    parser.add_argument("--ignores-form", action="store_true", help="hold no reply to anything")
    parser.add_argument("--longest", type=int, help="most characters of a prompt")
    parser.add_argument("--most-tokens", type=int, help="most tokens of a reply to a judge prompt")
    parser.add_argument("--thinks", type=int, default=0, help="words before a free verdict")
    parser.add_argument("--letters-split", action="store_true", help="a word takes two tokens")
    flags, _ = parser.parse_known_args()
    script = Script(
        delay_s=flags.delay_ms / 1000,
        right=flags.right,
        right_after=flags.right_after,
        served=frozenset(flags.served_model_name),
        key=os.environ.get("VLLM_API_KEY"),
        log=flags.log,
        judge=_manner(flags) if flags.judge else None,
        opening_after=flags.opening_after,
        accident=_accident(flags.accident) if flags.accident else None,
        adapters=flags.enable_lora and not flags.no_lora,
    )
    asyncio.run(serve(flags.host, flags.port, Server(script, _model(flags))))


def _model(flags: argparse.Namespace) -> Model:
    if not flags.opened:
        return Model(flags.model, flags.probes, flags.stuck)
    from tests.scripted.opened import Opened

    return Opened(flags.model, flags.stuck, flags.off)


def _accident(said: str) -> Accident:
    what, _, every = said.partition(":")
    return Accident(what, int(every))


def _manner(flags: argparse.Namespace) -> Manner:
    refused = {
        "logprobs": flags.no_logprobs,
        "structured_outputs": flags.no_choice,
        "response_format": flags.no_schema,
    }
    return Manner(
        by=flags.judge,
        outside=flags.judge_outside,
        refuses=tuple(field for field, missing in refused.items() if missing),
        ignores_form=flags.ignores_form,
        longest=flags.longest,
        most_tokens=flags.most_tokens,
        thinks=flags.thinks,
        split=flags.letters_split,
    )


if __name__ == "__main__":
    main()
