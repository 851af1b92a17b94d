"""Models of the Hugging Face Hub: from this machine's cache, else downloaded."""

from __future__ import annotations

import contextlib
import importlib
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from eegstore import InputError

# The client itself waits without end for a Hub that a firewall keeps silent.
ANSWER_S: Final = 4.0

# The main branch of these holds pickled weights only; the safetensors are in the Hub's own
# conversion, which is a pull request.
SAFETENSORS_REVISION: Final = {"openai/clip-vit-base-patch32": "refs/pr/15"}


def summary(error: BaseException) -> str:
    """An exception in one line."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {textwrap.shorten(first, 160, placeholder=' ...')}"


def _ask(model: str, revision: str | None) -> None:
    """Return once the Hub has said that it has the model."""
    from huggingface_hub import HfApi

    answer: Future[None] = Future()

    def ask() -> None:
        try:
            HfApi().model_info(model, revision=revision)
            answer.set_result(None)
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer.result(ANSWER_S)
    except TimeoutError:
        raise TimeoutError(f"no answer in {ANSWER_S:g} s") from None


def snapshot(
    model: str, revision: str | None, patterns: list[str], whole: Callable[[Path], bool]
) -> Path:
    """The folder of a hub model: from the cache where it is ``whole`` there, else downloaded.

    Raises
    ------
    InputError
        Where it is not in the cache, and the Hub does not have it or does not answer.
    """
    from huggingface_hub import snapshot_download

    revision = revision or SAFETENSORS_REVISION.get(model)
    failure = ""
    for cached_only in (True, False):
        try:
            with quiet_hub():
                if not cached_only:
                    _ask(model, revision)
                folder = Path(
                    snapshot_download(
                        model,
                        revision=revision,
                        allow_patterns=patterns,
                        local_files_only=cached_only,
                    )
                )
        except Exception as error:  # the client raises what its HTTP library does
            failure = summary(error)
            continue
        if whole(folder) or not cached_only:
            return folder
    command = f"hf download {model}" + (f" --revision {revision}" if revision else "")
    raise InputError(
        f"model {model!r}: neither a folder nor in this machine's cache, and not to be had from the"
        f" Hub ({failure}); run `HF_HUB_OFFLINE=0 {command}` where there is a network, or name a"
        " folder that holds the model"
    )


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep progress bars, log lines and warnings of huggingface_hub off the terminal."""
    utils: Any = importlib.import_module("huggingface_hub.utils")
    shown, level = not utils.are_progress_bars_disabled(), utils.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils.disable_progress_bars()
        utils.logging.set_verbosity_error()
        try:
            yield
        finally:
            utils.logging.set_verbosity(level)
            if shown:
                utils.enable_progress_bars()
