"""An installed provider whose vendor knows idempotency keys: a submit of unknown outcome may be sent again."""

from providers.base import Call, Completed, Family, Model, Provider
from providers.params import OpenParams


class KeyedVendor(Provider):
    name = "keyed"
    families = (Family("keyed", ("keyed-*",)),)
    models = (Model("keyed-1", ("chat",), OpenParams),)
    retry_submit = "key"

    def submit(self, call: Call) -> Completed:
        headers = {"Idempotency-Key": call.submit_key}
        body = {"prompt": call.given()["prompt"]}
        reply = call.http.post("/jobs", json=body, headers=headers, paid=True)
        return Completed(text=reply.object()["text"])
