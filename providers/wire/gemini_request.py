"""What goes out to Google's `generateContent`: the shared input as contents, tools and generation config.

Source: ai.google.dev/api/generate-content.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from providers.base import Call, ProviderError
from providers.wire import openai_chat

RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
CONFIG = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
# Fields of the request that go out as they are when a caller knows them.
PASSED = ("safetySettings", "cachedContent", "toolConfig")


def request(call: Call) -> dict[str, Any]:
    """The body of a call. Raises ProviderError (`bad_input`) for messages that make no sense."""
    given = call.given()
    try:
        system, contents = conversation(openai_chat.messages(call))
        tools = _tools(given)
    except (LookupError, TypeError, AttributeError, ValueError):
        raise ProviderError("bad_input", "The messages cannot be read.") from None
    body: dict[str, Any] = {name: given[name] for name in PASSED if name in given}
    body["contents"] = contents
    if system:
        body["systemInstruction"] = {"parts": system}
    body |= tools
    config = _config(given) | (_picture(given) if call.task_type != "chat" else {})
    return body | ({"generationConfig": config} if config else {})


def _config(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {theirs: given[ours] for ours, theirs in CONFIG.items() if ours in given}
    if found.get("seed") == -1:
        del found["seed"]
    if stop := given.get("stop"):
        found["stopSequences"] = [stop] if isinstance(stop, str) else stop
    if thinking := given.get("thinkingConfig") or _thinking(given.get("reasoning_effort")):
        found["thinkingConfig"] = thinking
    return found | _form(given.get("response_format"))


def _thinking(effort: Any) -> dict[str, Any]:
    """In levels; whoever needs the budgets of older models gives a `thinkingConfig`."""
    if effort is None:
        return {}
    return {"thinkingBudget": 0} if effort == "none" else {"thinkingLevel": str(effort).upper()}


def _form(wish: Any) -> dict[str, Any]:
    kind = wish.get("type") if isinstance(wish, dict) else None
    if kind not in {"json_object", "json_schema"}:
        return {}
    schema = (wish.get("json_schema") or {}).get("schema")
    return {"responseMimeType": "application/json"} | (
        {"responseJsonSchema": schema} if schema else {}
    )


def _picture(given: Mapping[str, Any]) -> dict[str, Any]:
    """Shape and size of a picture: one of Google's ratios, and 2K or 4K where more than 1K is asked for."""
    width, height = edges(given)
    shape: dict[str, Any] = {}
    if "aspect_ratio" in given:
        shape["aspectRatio"] = given["aspect_ratio"]
    elif width and height:
        shape["aspectRatio"] = nearest(width / height)
    longest = max(width, height)
    if longest > 1536:  # the longer edge of an oblong 1K picture
        shape["imageSize"] = "4K" if longest > 3072 else "2K"
    config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
    return config | ({"imageConfig": shape} if shape else {})


def edges(given: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels, zeros when not both are said."""
    size = str(given.get("size", "")).split("x")
    if len(size) == 2 and all(part.isdigit() for part in size):
        return int(size[0]), int(size[1])
    if "width" in given and "height" in given:
        return given["width"], given["height"]
    return 0, 0


def nearest(ratio: float, among: tuple[str, ...] = RATIOS) -> str:
    """Of Google's ratios the one that is closest."""

    def distance(name: str) -> float:
        width, height = map(int, name.split(":"))
        return abs(math.log(ratio * height / width))

    return min(among, key=distance)


def conversation(
    messages: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Parts of the system instruction, and contents of the roles `user` and `model`."""
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for message in messages:
        if message["role"] in {"system", "developer"}:
            system += _parts(message.get("content"))
            continue
        role = "model" if message["role"] == "assistant" else "user"
        if message["role"] in {"tool", "function"}:
            parts = [_answered(message, names)]
        else:
            calls = message.get("tool_calls") or ()
            names |= {made.get("id", ""): made["function"]["name"] for made in calls}
            parts = [*_parts(message.get("content")), *map(_called, calls)]
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return system, contents


def _parts(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, list):
        return [{"text": content}] if content else []
    return [_part(part) for part in content]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    """Texts, and media under OpenAI's names: `image_url`, `video_url`, `file` (PDFs too), `input_audio`."""
    kind = part["type"]
    held = part[kind]
    if kind == "text":
        return {"text": held}
    if kind == "input_audio":
        data = held["data"].rpartition("base64,")[2]
        return {"inlineData": {"mimeType": f"audio/{held.get('format', 'wav')}", "data": data}}
    return _file(held["file_data"] if kind == "file" else held["url"])


def _file(url: str) -> dict[str, Any]:
    head, found, data = url.partition(";base64,")
    if found:
        return {"inlineData": {"mimeType": head.removeprefix("data:"), "data": data}}
    return {"fileData": {"fileUri": url}}


def _called(made: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call of the model, with the signature of the thought that led to it."""
    function = made["function"]
    arguments = json.loads(function.get("arguments") or "{}")
    part: dict[str, Any] = {"functionCall": {"name": function["name"], "args": arguments}}
    mark = ((made.get("extra_content") or {}).get("google") or {}).get("thought_signature")
    return part | ({"thoughtSignature": mark} if mark else {})


def _answered(message: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    name = names.get(message.get("tool_call_id", ""), message.get("name", ""))
    return {"functionResponse": {"name": name, "response": {"result": message.get("content")}}}


def _tools(given: Mapping[str, Any]) -> dict[str, Any]:
    declared = [_tool(tool) for tool in given.get("tools") or ()]
    if not declared:
        return {}
    return {"tools": [{"functionDeclarations": declared}], **_choice(given.get("tool_choice"))}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    found = {name: function[name] for name in ("name", "description") if name in function}
    schema = function.get("parameters")
    return found | ({"parametersJsonSchema": schema} if schema else {})


def _choice(wish: Any) -> dict[str, Any]:
    """OpenAI's `tool_choice` in Google's words."""
    if isinstance(wish, dict):
        names = [wish["function"]["name"]]
        return {
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": names}}
        }
    mode = {"none": "NONE", "auto": "AUTO", "required": "ANY"}.get(wish)
    return {"toolConfig": {"functionCallingConfig": {"mode": mode}}} if mode else {}
