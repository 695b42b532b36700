"""`accord serve MODEL`, and `accord eval lm-eval` and `accord eval inspect`, which run those programs against it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[
    str, typer.Argument(help="directory of a model, a stage of a run, a run, or a hub id", show_default=False)
]
Stage = Annotated[str, typer.Option(help="of a run: the stage whose model is meant, e.g. ppo")]
Dtype = Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="type of the weights")]
PadToken = Annotated[str | None, typer.Option(help="token of the vocabulary to pad with, where there is none")]
MaxBatch = Annotated[int, typer.Option(min=1, help="replies decoded at a time")]
Rest = Annotated[list[str] | None, typer.Argument(help="after `--`: options of the program itself", show_default=False)]
ModelOrAddress = Annotated[
    str,
    typer.Argument(help="as for `accord serve`, or the address of a server that runs already", show_default=False),
]
AddressName = Annotated[str, typer.Option("--model-name", help="name of the model at its address")]
KeyName = Annotated[
    str | None, typer.Option("--api-key-env", help="environment variable with the key; else ACCORD_SERVE_API_KEY")
]


def serve(  # noqa: PLR0913  (options, all with defaults)
    model: Model,
    stage: Stage = "",
    name: Annotated[str, typer.Option(help="what clients call the model; default: its stage or directory")] = "",
    host: Annotated[str, typer.Option(help="address to listen at; 0.0.0.0 = from other machines too")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    api_key_env: KeyName = None,
    require_key: Annotated[bool, typer.Option("--require-key", help="do not start without a key")] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="make a key and print it")] = False,
    no_key: Annotated[bool, typer.Option("--no-key", help="let everybody who reaches --host use the model")] = False,
    max_batch: MaxBatch = 32,
    max_queue: Annotated[int, typer.Option(min=1, help="replies that wait; more are refused with 429")] = 256,
    default_max_tokens: Annotated[
        int, typer.Option(min=1, help="most tokens of a chat reply when the request has no limit")
    ] = 512,
    dtype: Dtype = "float32",
    pad_token: PadToken = None,
) -> None:
    """Serve a model in the form of OpenAI's API: chat completions, completions, log-probabilities, streams."""
    from accord.errors import ConfigError
    from accord.listening import address_of, listen
    from accord.serve import running
    from accord.serve.app import Settings
    from accord.serve.model import find_model

    key = running.new_key() if new_key else running.key_of(api_key_env)
    if require_key and not key:
        raise ConfigError(
            "no key is set", where="--require-key", fix=f"export {running.KEY_VARIABLE}=..., or use --new-key"
        )
    hosts = running.check_reach(host, key, open_to_all=no_key)
    place = find_model(model, stage=stage, name=name)
    with listen(host, port) as taken:
        address = f"{address_of(taken)}/v1"
        if new_key:
            typer.echo(f"API key, shown once: {key}")
        typer.echo(f"loading {place.location}")
        running.run(
            place,
            taken,
            Settings(place.name, default_max_tokens, key, hosts),
            capacity=running.Capacity(max_batch, max_queue, default_max_tokens),
            weights=running.Weights(dtype, pad_token),
            on_ready=lambda: typer.echo(f"{place.name} is ready: {address}  (stop with Ctrl-C)"),
        )


def lm_eval(  # noqa: PLR0913  (options, most with defaults)
    model: ModelOrAddress,
    tasks: Annotated[str, typer.Option(help="names of tasks, with commas; `lm-eval ls tasks` lists them")],
    rest: Rest = None,
    stage: Stage = "",
    model_name: AddressName = "",
    tokenizer: Annotated[
        str, typer.Option(help="at an address: directory or hub id of the tokenizer, for log-likelihoods")
    ] = "",
    api_key_env: KeyName = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="as conversations, by the chat template (no log-likelihoods)")
    ] = False,
    limit: Annotated[float | None, typer.Option(help="only so many examples a task", show_default=False)] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="examples in the prompt", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="directory of the results", show_default=False)] = None,
    include_path: Annotated[
        Path | None, typer.Option(help="directory with tasks of your own", show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="requests in flight")] = 8,
    max_batch: MaxBatch = 32,
    dtype: Dtype = "float32",
    pad_token: PadToken = None,
) -> None:
    """Run tasks of EleutherAI's lm-evaluation-harness on a model: it is served meanwhile, and lm-eval is the client.

    Without --chat tasks are texts, as lm-eval writes them; log-likelihoods and generation. Needs the extra
    lmeval.
    """
    from accord.serve import running
    from accord.serve.clients import LmEval, lm_eval_command, require_lm_eval, run_client, target_of

    require_lm_eval()
    asked = LmEval(tasks, chat, limit, num_fewshot, out, include_path, concurrency, tuple(rest or ()))
    weights = running.Weights(dtype, pad_token)
    target = target_of(
        model, stage=stage, name=model_name, key_variable=api_key_env, max_batch=max_batch, weights=weights
    )
    with target as there:
        code = run_client(lm_eval_command(there, asked, tokenizer), {"OPENAI_API_KEY": there.key or "none"})
    raise typer.Exit(code)


def inspect(  # noqa: PLR0913  (options, most with defaults)
    model: ModelOrAddress,
    task: Annotated[str, typer.Argument(help="file with a task of Inspect, or its name", show_default=False)],
    rest: Rest = None,
    stage: Stage = "",
    model_name: AddressName = "",
    api_key_env: KeyName = None,
    limit: Annotated[int | None, typer.Option(help="only so many samples", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="directory of the logs", show_default=False)] = None,
    program: Annotated[
        str, typer.Option(help="Inspect's program, where it is installed in an environment of its own")
    ] = "inspect",
    max_batch: MaxBatch = 32,
    dtype: Dtype = "float32",
    pad_token: PadToken = None,
) -> None:
    """Run a task of Inspect (inspect-ai) on a model: it is served meanwhile, and Inspect is the client.

    Needs the extra inspect.
    """
    from accord.serve import running
    from accord.serve.clients import inspect_command, require_inspect, run_client, target_of

    found = require_inspect(program)
    weights = running.Weights(dtype, pad_token)
    target = target_of(
        model, stage=stage, name=model_name, key_variable=api_key_env, max_batch=max_batch, weights=weights
    )
    with target as there:
        command = inspect_command(found, there, task, limit=limit, out=out, rest=tuple(rest or ()))
        code = run_client(command, {"ACCORD_BASE_URL": there.url, "ACCORD_API_KEY": there.key or "none"})
    raise typer.Exit(code)
