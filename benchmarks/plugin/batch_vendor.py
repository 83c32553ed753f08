"""An installed provider whose jobs take a while and are looked up many at once."""

from collections.abc import Sequence

from providers.base import Accepted, Call, Completed, Family, Model, Provider, Update
from providers.params import OpenParams


class BatchVendor(Provider):
    name = "batch"
    families = (Family("batch", ("batch-*",)),)
    models = (Model("batch-1", ("chat",), OpenParams),)

    def submit(self, call: Call) -> Accepted:
        reply = call.http.post("/jobs", json={"prompt": call.given()["prompt"]}, paid=True)
        return Accepted(str(reply.object()["id"]))

    def poll(self, calls: Sequence[Call]) -> list[Update]:
        ids = [call.external_id for call in calls]
        ended = calls[0].http.post("/jobs/query", json={"ids": ids}).object()["ended"]
        return [
            Update(call, Completed(text="done") if ended[str(call.external_id)] else "working")
            for call in calls
        ]
