"""The only client of a language model: questions with a JSON Schema, their answers validated and cached.

Speaks to any OpenAI-compatible server through the `openai` package, which retries by itself, with growing pauses, after
rate limits (429), server errors and timeouts. Several questions may be under way at once, no more of them a minute than
the user allows; answers come back in the order of the questions.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from fluorosam_cli.artefacts import write_bytes
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.text.encoder import offline

if TYPE_CHECKING:
    import openai

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
NO_KEY = "not-needed"  # the openai package insists on some key; local servers ignore it
RETRIES = 5
ATTEMPTS = 2  # calls before an answer that is not the JSON asked for is given up
ONE_CLIENT = threading.Lock()  # cached_property does not keep threads from making several

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Question:
    """What is sent. The answer must follow the JSON Schema of `answer`, a pydantic model."""

    system: str
    user: str
    answer: type[BaseModel]

    @property
    def schema(self) -> dict[str, Any]:
        return self.answer.model_json_schema()

    @property
    def approximate_tokens(self) -> int:
        """Four characters a token, the usual rule for English."""
        return (len(self.system) + len(self.user) + len(json.dumps(self.schema))) // 4


@dataclass(frozen=True)
class LanguageModel:
    """A model on a server. `base_url` None: OPENAI_BASE_URL, or OpenAI's own. `calls_per_minute` None: any number."""

    model: str
    base_url: str | None = None
    parallel: int = 4  # questions under way at once
    calls_per_minute: float | None = None
    timeout_s: float = 120.0

    def sha256(self, question: Question) -> str:
        """Identifies model and question: the key of the cache."""
        parts = [self.model, question.system, question.user, question.schema]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def cached(self, question: Question) -> bool:
        return self._cache_file(question).is_file()

    def check_ready(self) -> None:
        """Raise FluoroError unless a call may be made: the network is allowed and a key is there if one is needed."""
        if offline():
            raise FluoroError(
                f"{self.model}: not asked, FLUORO_OFFLINE is set", "unset FLUORO_OFFLINE, or leave out --llm"
            )
        if not os.environ.get("OPENAI_API_KEY") and self._host not in LOCAL_HOSTS:
            raise FluoroError(
                f"{self.model}: OPENAI_API_KEY is not set",
                "export OPENAI_API_KEY=..., or give a local server: --base-url http://localhost:11434/v1",
            )

    def ask(self, question: Question) -> BaseModel | None:
        """The validated answer, from the cache if the same was asked before.

        None when the model does not follow the schema. Raises FluoroError when the server cannot be reached or refuses.
        """
        file = self._cache_file(question)
        if file.is_file() and (answer := _parsed(file.read_text(encoding="utf-8"), question.answer)):
            return answer
        self.check_ready()
        for _ in range(ATTEMPTS):
            text = self._call(question)
            if answer := _parsed(text, question.answer):
                write_bytes(file, text.encode())
                return answer
        return None

    def ask_all(self, questions: Sequence[Question]) -> Iterator[BaseModel | None]:
        """The answer of each question in order, `parallel` of them asked at once; raises what `ask` raises.

        After a refusal nothing more is asked, and what was asked is waited for, so that it need not be paid twice. The
        threads are daemons: an interrupted run does not wait for a slow server.
        """
        answers: list[Future[BaseModel | None]] = [Future() for _ in questions]
        left = iter(zip(questions, answers, strict=True))
        taking, stopped = threading.Lock(), threading.Event()

        def work() -> None:
            while not stopped.is_set():
                with taking:
                    question, answer = next(left, (None, None))
                if question is None or answer is None:
                    return
                try:
                    answer.set_result(self.ask(question))
                except BaseException as error:
                    answer.set_exception(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.parallel, len(questions)))]
        for thread in threads:
            thread.start()
        try:
            for answer in answers:
                yield answer.result()
        except FluoroError:
            stopped.set()
            for thread in threads:
                thread.join()
            raise
        finally:
            stopped.set()

    def _cache_file(self, question: Question) -> Path:
        root = os.environ.get("FLUORO_CACHE") or Path.home() / ".cache" / "fluoro"
        return Path(root) / "llm" / f"{self.sha256(question)}.json"

    @property
    def _url(self) -> str | None:
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or None

    @property
    def _host(self) -> str | None:
        return urlsplit(self._url or "").hostname

    @cached_property
    def _pace(self) -> "Pace":
        return Pace(60 / self.calls_per_minute if self.calls_per_minute else 0.0)

    @cached_property
    def _client(self) -> "openai.OpenAI":
        import openai

        key = os.environ.get("OPENAI_API_KEY") or NO_KEY
        return openai.OpenAI(base_url=self._url, api_key=key, timeout=self.timeout_s, max_retries=RETRIES)

    def _call(self, question: Question) -> str:
        import openai

        with ONE_CLIENT:
            client, pace = self._client, self._pace
        pace.wait()
        try:
            completion = client.chat.completions.create(
                model=self.model,
                messages=[{"role": "system", "content": question.system}, {"role": "user", "content": question.user}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": question.schema},
                },
            )
        except openai.AuthenticationError as error:
            raise FluoroError(f"{self.model}: the server refuses the key (401)", "check OPENAI_API_KEY") from error
        except openai.APIStatusError as error:
            reason = str(error.message).strip().splitlines()[0]
            raise FluoroError(f"{self.model}: {reason}", "check --llm and --base-url; repeat with --resume") from error
        except openai.APIConnectionError as error:  # includes timeouts
            where = self._host or "api.openai.com"
            raise FluoroError(f"{where}: no answer ({error})", "check --base-url; repeat with --resume") from error
        except openai.OpenAIError as error:
            raise FluoroError(f"{self.model}: {error}", "check --llm and --base-url") from error
        return (completion.choices[0].message.content or "") if completion.choices else ""


class Pace:
    """Lets calls begin no faster than one every `interval_s`, from whichever thread they come."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            begin = max(self._next, time.monotonic())
            self._next = begin + self._interval_s
        time.sleep(max(0.0, begin - time.monotonic()))


def _parsed(text: str, model: type[Answer]) -> Answer | None:
    try:
        return model.model_validate_json(text)
    except ValidationError:
        return None
