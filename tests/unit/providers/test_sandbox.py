"""The built-in engine: what it makes, how it takes its time, how it fails."""

import io
import math
import signal
import time
import wave
from dataclasses import replace
from typing import ClassVar

import pytest
from PIL import Image
from pydantic import ValidationError

from providers.adapters.sandbox import Sandbox
from providers.base import (
    ERROR_KINDS,
    Aborted,
    Absent,
    Accepted,
    Completed,
    ProviderError,
    Update,
)
from providers.contract import ProviderContract, accepted_call
from providers.testing import FakeInput, make_call

sandbox = Sandbox()


def call_for(model, given, controls=None, **more):
    controls = {"latency": 0, "chunk_delay": 0} | (controls or {})
    return make_call(sandbox, f"sandbox-{model}", {**given, "sandbox": controls}, **more)


def made(model, given, controls=None, **more):
    result = sandbox.submit(call_for(model, given, controls, **more))
    assert isinstance(result, Completed)
    return result


def failure(call):
    with pytest.raises(ProviderError) as caught:
        sandbox.submit(call)
    return caught.value


def polled(call, accepted) -> Update:
    [update] = Sandbox().poll([accepted_call(call, accepted)])
    return update


def accepted_by(call) -> Accepted:
    result = sandbox.submit(call)
    assert isinstance(result, Accepted)
    return result


class TestSandboxKeepsTheContract(ProviderContract):
    provider = sandbox
    paid = False
    remote = False

    def make(self, **more):
        return call_for("text", {"prompt": "hi"}, {"mode": "accept", "latency": 0.05}, **more)


class TestText:
    def test_it_says_that_it_is_the_sandbox(self):
        result = made("text", {"prompt": "What is a kite?"})

        assert result.text == "[sandbox] sandbox-text: What is a kite?"
        assert result.message == {
            "role": "assistant",
            "content": result.text,
            "refusal": None,
            "finish_reason": "stop",
        }
        assert result.usage["total_tokens"] == (
            result.usage["prompt_tokens"] + result.usage["completion_tokens"]
        )

    def test_the_last_user_speaks(self):
        messages = [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "answer"},
            {"role": "user", "content": [{"type": "text", "text": "last"}, {"type": "image_url"}]},
            {"role": "tool", "content": "42"},
        ]

        assert made("text", {"messages": messages}).text == "[sandbox] sandbox-text: last"
        assert made("text", {"messages": messages[1:2]}).text == "[sandbox] sandbox-text: "

    def test_an_answer_word_for_word(self):
        assert made("text", {"prompt": "x"}, {"text": " exactly\nthis "}).text == " exactly\nthis "
        assert made("text", {"prompt": "x"}, {"text": ""}).text == ""

    def test_a_stream_of_words_is_the_answer(self):
        call = call_for("text", {"prompt": "one  two\nthree"}, stream=True)

        result = sandbox.submit(call)

        assert isinstance(result, Completed)
        assert call.emit.text == result.text == "[sandbox] sandbox-text: one  two\nthree"
        assert len(call.emit.deltas) == 5

    @pytest.mark.parametrize("stream", [True, False])
    def test_an_answer_that_breaks_off(self, stream):
        controls = {"text": "one two three", "cut_after": 2, "times": 1}
        call = call_for("text", {"prompt": "x"}, controls, stream=stream)

        problem = failure(call)

        assert (problem.kind, problem.code) == ("transient", "upstream_cut")
        assert problem.blames_executor is False
        assert call.emit.text == ("one two " if stream else "")
        assert sandbox.submit(replace(call, attempt=2)).text == "one two three"  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("choice", "name"),
        [
            ("required", "first"),
            ({"type": "function", "function": {"name": "second"}}, "second"),
            ({"type": "function", "function": {"name": "unknown"}}, None),
            ("auto", None),
            (None, None),
        ],
    )
    def test_a_tool_is_called_when_one_is_demanded(self, choice, name):
        tools = [{"type": "function", "function": {"name": n}} for n in ("first", "second")]
        given = {"prompt": "x", "tools": tools, "tool_choice": choice}
        call = call_for("text", {k: v for k, v in given.items() if v}, stream=True)

        message = sandbox.submit(call).message  # type: ignore[union-attr]

        assert message is not None
        called = [t["function"] for t in message.get("tool_calls", ())]
        assert called == ([{"name": name, "arguments": "{}"}] if name else [])
        assert message["finish_reason"] == ("tool_calls" if name else "stop")
        streamed = [tools for _, _, tools in call.emit.deltas if tools]
        assert len(streamed) == len(called)


class TestImages:
    def test_a_real_png_of_the_size_asked_for(self):
        result = made("image", {"prompt": "a red kite", "size": "640x360", "seed": 7, "n": 2})

        for output in result.outputs:
            image = Image.open(io.BytesIO(output.data or b""))
            image.load()
            assert (image.format, image.size) == ("PNG", (640, 360))
            assert (output.kind, output.content_type) == ("image", "image/png")
            assert output.meta == {"width": 640, "height": 360, "seed": 7}
        assert result.outputs[0].data != result.outputs[1].data
        assert result.usage["images"] == 2

    def test_equal_input_gives_equal_bytes(self):
        def picture(**given):
            return made("image", {"prompt": "a red kite", "seed": 7} | given).outputs[0].data

        same = {picture(), picture()}
        different = {picture(seed=8), picture(prompt="a blue kite"), picture(size="256x256")}

        assert len(same) == 1
        assert len(same | different) == 4

    def test_how_it_behaves_does_not_change_what_it_makes(self):
        plain = made("image", {"prompt": "x"})
        late = made("image", {"prompt": "x"}, {"latency": 0.02, "times": 3}, attempt=4, task_id="x")

        assert plain.outputs[0].data == late.outputs[0].data

    def test_a_picture_depends_on_the_picture_it_is_made_from(self):
        given = {"prompt": "x", "images": ["asset:1"]}
        one = made("image", given, inputs={"images.0": FakeInput(b"one")})
        same = made(
            "image", {**given, "images": ["asset:2"]}, inputs={"images.0": FakeInput(b"one")}
        )
        two = made("image", given, inputs={"images.0": FakeInput(b"two")})

        assert one.outputs[0].data == same.outputs[0].data != two.outputs[0].data

    @pytest.mark.parametrize(
        ("given", "size"),
        [
            ({}, (512, 512)),
            ({"size": "16x16"}, (16, 16)),
            ({"size": "2048x16"}, (2048, 16)),
            ({"width": 100}, (100, 512)),
            ({"width": 100, "height": 50}, (100, 50)),
            ({"aspect_ratio": "16:9"}, (512, 288)),
            ({"aspect_ratio": "1:1000"}, (16, 512)),
        ],
    )
    def test_sizes(self, given, size):
        output = made("image", {"prompt": "x", **given}).outputs[0]

        assert Image.open(io.BytesIO(output.data or b"")).size == size


class TestVideo:
    def test_a_playable_film(self):
        given = {"prompt": "a kite", "size": "64x48", "duration": 7.5, "fps": 4}
        result = made("video", given)

        [film] = result.outputs
        assert (film.kind, film.content_type) == ("video", "video/webm")
        assert film.data is not None
        assert film.data.startswith(b"\x1aE\xdf\xa3")
        elements = dict(ebml(film.data))
        assert elements[0x4282] == [b"webm"]
        assert elements[0x86] == [b"V_VP8"]
        assert (number(elements[0xB0]), number(elements[0xBA])) == (64, 48)
        frames = elements[0xA3]
        assert len(frames) == 30
        assert all(frame[3:6] == b"\x9d\x01\x2a" for frame in frames), "each is a VP8 key frame"
        assert [int.from_bytes(start, "big") for start in elements[0xE7]] == [0, 5000]
        assert result.usage["seconds"] == 7.5
        assert film.meta["duration_seconds"] == 7.5

    def test_equal_input_gives_equal_bytes(self):
        given = {"prompt": "a kite", "size": "64x48", "duration": 1}

        assert made("video", given).outputs == made("video", given).outputs


MASTERS = {0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675}


def ebml(data):
    """Identity -> contents of all leaves, in order (RFC 8794)."""
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        width = 9 - data[at].bit_length()
        identity, at = int.from_bytes(data[at : at + width], "big"), at + width
        length, at = int.from_bytes(data[at + 1 : at + 8], "big"), at + 8
        content, at = data[at : at + length], at + length
        if identity not in MASTERS:
            found.setdefault(identity, []).append(content[4:] if identity == 0xA3 else content)
            continue
        for inner, contents in ebml(content):
            found.setdefault(inner, []).extend(contents)
    return found.items()


def number(contents):
    return int.from_bytes(contents[0], "big")


class TestAudio:
    def test_a_real_wav(self):
        [output] = made("audio", {"prompt": "hello", "duration": 1.25}).outputs

        assert (output.kind, output.content_type) == ("audio", "audio/wav")
        with wave.open(io.BytesIO(output.data or b"")) as sound:
            assert (sound.getnchannels(), sound.getframerate()) == (1, 16_000)
            assert sound.getnframes() == 20_000
            assert any(sound.readframes(20_000))

    def test_the_more_is_said_the_longer_it_takes(self):
        short = made("audio", {"prompt": "hi"})
        long = made("audio", {"prompt": "hi " * 30})
        quick = made("audio", {"prompt": "hi " * 30, "speed": 2})

        assert short.usage["seconds"] < quick.usage["seconds"] < long.usage["seconds"]
        assert long.usage["characters"] == 90

    def test_transcription(self):
        [sound] = made("audio", {"prompt": "x", "duration": 2.5}).outputs
        file = FakeInput(sound.data or b"", "audio/wav")

        result = made("transcribe", {"audio": "asset:1"}, inputs={"audio": file})

        assert result.text == "[sandbox] 2.5 s of audio"
        assert result.data == {
            "language": "en",
            "duration": 2.5,
            "segments": [{"start": 0.0, "end": 2.5, "text": result.text}],
        }
        assert result.usage["seconds"] == 2.5

    def test_a_transcription_word_for_word(self):
        given = {"audio": "asset:1", "language": "de"}
        result = made(
            "transcribe", given, {"text": "Hallo"}, inputs={"audio": FakeInput(b"?" * 16_000)}
        )

        assert (result.text, result.data["language"]) == ("Hallo", "de")
        assert result.data["duration"] == 1.0, "a format it does not know is guessed by size"

    def test_no_sound(self):
        assert failure(call_for("transcribe", {"audio": "asset:1"})).kind == "bad_input"


class TestEmbedding:
    def test_directions_in_space(self):
        result = made("embedding", {"texts": ["a kite", "a boat", "a kite"]})

        first, second, third = result.data["embeddings"]
        assert first == third != second
        assert len(first) == 256
        for vector in (first, second):
            assert math.isclose(math.hypot(*vector), 1)

    @pytest.mark.parametrize("dimensions", [1, 3, 1024])
    def test_dimensions(self, dimensions):
        [vector] = made("embedding", {"prompt": "x", "dimensions": dimensions}).data["embeddings"]

        assert len(vector) == dimensions
        assert math.isclose(math.hypot(*vector), 1)


class TestInput:
    @pytest.mark.parametrize(
        ("model", "given"),
        [
            ("text", {}),
            ("text", {"prompt": "x", "size": "512x512"}),
            ("text", {"prompt": "x", "sandbox": {"fail": "nonsense"}}),
            ("text", {"prompt": "x", "sandbox": {"fail": "canceled"}}),
            ("text", {"prompt": "x", "sandbox": {"latency": 601}}),
            ("text", {"prompt": "x", "sandbox": {"latency": -1}}),
            ("text", {"prompt": "x", "sandbox": {"latency": float("inf")}}),
            ("text", {"prompt": "x", "sandbox": {"mode": "async"}}),
            ("text", {"prompt": "x", "sandbox": {"find": "maybe"}}),
            ("text", {"prompt": "x", "sandbox": {"sleep": 1}}),
            ("text", {"prompt": "x", "sandbox": {"crash": "yes"}}),
            ("image", {}),
            ("image", {"prompt": "x", "size": "15x512"}),
            ("image", {"prompt": "x", "size": "512x2049"}),
            ("image", {"prompt": "x", "width": 2049}),
            ("image", {"prompt": "x", "messages": []}),
            ("image", {"prompt": "x", "format": "jpeg"}),
            ("video", {"images": None}),
            ("video", {"prompt": "x", "duration": 61}),
            ("audio", {"voice": "x"}),
            ("audio", {"prompt": "x", "format": "mp3"}),
            ("transcribe", {"prompt": "x"}),
            ("embedding", {"dimensions": 8}),
            ("embedding", {"prompt": "x", "dimensions": 1025}),
        ],
    )
    def test_refused(self, model, given):
        with pytest.raises(ValidationError):
            make_call(sandbox, f"sandbox-{model}", given)

    @pytest.mark.parametrize(
        ("model", "given"),
        [
            ("image", {"images": ["asset:1"]}),
            ("image", {"prompt": "x", "negative_prompt": "", "guidance": 7.5, "steps": 20}),
            ("video", {"video": "asset:1"}),
            ("video", {"images": ["asset:1"]}),
            ("text", {"messages": [{"role": "user", "content": "x"}], "temperature": 0}),
        ],
    )
    def test_accepted(self, model, given):
        assert make_call(sandbox, f"sandbox-{model}", given).given() == given


class TestTime:
    def test_work_takes_ten_steps(self):
        call = call_for("text", {"prompt": "x"}, {"latency": 0.1})
        started = time.monotonic()

        sandbox.submit(call)

        assert time.monotonic() - started >= 0.1
        assert call.emit.progresses == pytest.approx([n / 10 for n in range(1, 11)])

    def test_no_latency_no_steps(self):
        call = call_for("text", {"prompt": "x"})
        sandbox.submit(call)

        assert call.emit.progresses == []

    def test_a_cancel_ends_the_work(self):
        answers = iter([False] * 3 + [True] * 100)
        call = call_for("text", {"prompt": "x"}, {"latency": 600}, cancelled=lambda: next(answers))

        with pytest.raises(Aborted):
            sandbox.submit(call)

    def test_a_deadline_ends_the_work(self):
        problem = failure(call_for("text", {"prompt": "x"}, {"latency": 600}, timeout=0.1))

        assert (problem.kind, problem.code) == ("transient", "upstream_timeout")

    def test_a_deadline_ends_a_stream(self):
        controls = {"chunk_delay": 100}

        problem = failure(call_for("text", {"prompt": "x y"}, controls, stream=True, timeout=0.1))

        assert problem.code == "upstream_timeout"


class TestFaults:
    @pytest.mark.parametrize("kind", ERROR_KINDS)
    def test_every_kind_on_demand(self, kind):
        problem = failure(call_for("text", {"prompt": "x"}, {"fail": kind}))

        assert (problem.kind, problem.code, problem.blames_executor) == (kind, kind, False)

    @pytest.mark.parametrize("kind", ERROR_KINDS)
    def test_for_the_first_attempts_only(self, kind):
        controls = {"fail": kind, "times": 2}

        for attempt in (1, 2):
            failure(call_for("text", {"prompt": "x"}, controls, attempt=attempt))
        assert made("text", {"prompt": "x"}, controls, attempt=3).text

    def test_no_times_at_all(self):
        assert made("text", {"prompt": "x"}, {"fail": "lost", "times": 0}).text

    @pytest.mark.parametrize("kind", ["rate_limited", "overloaded"])
    def test_a_wait_is_asked_for(self, kind):
        problem = failure(call_for("text", {"prompt": "x"}, {"fail": kind, "retry_after": 1.5}))

        assert problem.retry_after == 1.5

    def test_other_kinds_ask_for_no_wait(self):
        problem = failure(call_for("text", {"prompt": "x"}, {"fail": "lost", "retry_after": 1.5}))

        assert problem.retry_after is None

    def test_a_refusal_has_words(self):
        problem = failure(call_for("text", {"prompt": "x"}, {"fail": "content_refused"}))

        assert problem.refusal == problem.message != ""

    def test_the_executor_is_blamed_when_asked(self):
        problem = failure(call_for("text", {"prompt": "x"}, {"fail": "overloaded", "health": True}))

        assert problem.blames_executor is True

    def test_a_crash_kills_the_process(self, monkeypatch):
        killed = []
        monkeypatch.setattr("os.kill", lambda pid, number: killed.append(number))
        sandbox.submit(call_for("text", {"prompt": "x"}, {"crash": True}))

        assert killed == [signal.SIGKILL]


class TestAccept:
    CONTROLS: ClassVar = {"mode": "accept", "latency": 20}

    def test_a_job_is_worked_on_and_done(self, monkeypatch):
        call = call_for("image", {"prompt": "a kite"}, self.CONTROLS)
        accepted = accepted_by(call)
        assert accepted.poll_after == 20

        started = time.time()
        monkeypatch.setattr("time.time", lambda: started + 9)
        first = polled(call, accepted)
        monkeypatch.setattr("time.time", lambda: started + 20)
        last = polled(call, accepted)

        assert (first.state, first.progress, first.phase) == ("working", 0.4, "step 4/10")
        assert first.poll_after == pytest.approx(11, abs=1)
        assert isinstance(last.state, Completed)
        assert last.state.outputs == made("image", {"prompt": "a kite"}).outputs

    @pytest.mark.parametrize("kind", [k for k in ERROR_KINDS if k != "unknown_outcome"])
    def test_a_job_that_fails(self, kind):
        controls = {"mode": "accept", "latency": 0, "fail": kind, "retry_after": 3, "health": True}
        call = call_for("text", {"prompt": "x"}, controls)

        state = polled(call, accepted_by(call)).state

        assert isinstance(state, ProviderError)
        assert (state.kind, state.blames_executor) == (kind, True)
        assert state.retry_after == (3 if kind in {"rate_limited", "overloaded"} else None)

    def test_money_is_announced(self):
        sent: list[float] = []
        accepted_by(call_for("text", {"prompt": "x"}, self.CONTROLS, sent=sent))
        made("text", {"prompt": "x"}, sent=sent)

        assert len(sent) == 1

    def test_an_answer_that_breaks_off_is_a_failed_job(self):
        controls = {"mode": "accept", "latency": 0, "cut_after": 1}
        call = call_for("text", {"prompt": "x"}, controls, stream=True)

        state = polled(call, accepted_by(call)).state

        assert isinstance(state, ProviderError)
        assert state.code == "upstream_cut"

    @pytest.mark.parametrize(
        "identity", ["", "sandbox.1.2", "sandbox.1.2.ok.0.2", "other-vendor-7"]
    )
    def test_an_id_it_never_gave(self, identity):
        call = call_for("text", {"prompt": "x"})

        state = polled(call, Accepted(identity)).state

        assert isinstance(state, ProviderError)
        assert state.kind == "lost"

    def test_many_jobs_in_one_poll(self):
        calls = [call_for("text", {"prompt": str(n)}, {"mode": "accept"}) for n in range(5)]
        waiting = [accepted_call(call, accepted_by(call)) for call in calls]

        assert [update.call for update in sandbox.poll(waiting)] == waiting

    def test_cancel(self):
        call = call_for("text", {"prompt": "x"}, self.CONTROLS)
        running = accepted_call(call, accepted_by(call))
        done = accepted_call(
            call, accepted_by(call_for("text", {"prompt": "x"}, {"mode": "accept"}))
        )

        assert (sandbox.cancel(running), sandbox.cancel(done)) == ("canceled", "too_late")


class TestUnknownOutcome:
    """A vendor that may or may not have taken the job."""

    def call(self, find, **more):
        controls = {"fail": "unknown_outcome", "find": find}
        return call_for("text", {"prompt": "x"}, controls, **more)

    def test_it_was_accepted(self):
        sent: list[float] = []
        call = self.call("accepted", sent=sent)
        assert failure(call).kind == "unknown_outcome"
        assert len(sent) == 1

        found = Sandbox().find(call)

        assert isinstance(found, Accepted)
        assert isinstance(polled(call, found).state, Completed)

    def test_it_never_arrived_and_is_sent_again(self):
        call = self.call("absent")
        assert failure(call).kind == "unknown_outcome"

        assert sandbox.find(call) == Absent()
        assert isinstance(sandbox.submit(replace(call, attempt=2)), Completed)

    def test_nobody_can_tell(self):
        call = self.call("never")
        assert failure(call).kind == "unknown_outcome"

        assert sandbox.find(call) is None
        assert failure(replace(call, attempt=2)).kind == "unknown_outcome"

    def test_also_when_jobs_are_accepted(self):
        controls = {"mode": "accept", "fail": "unknown_outcome"}

        assert failure(call_for("text", {"prompt": "x"}, controls)).kind == "unknown_outcome"
