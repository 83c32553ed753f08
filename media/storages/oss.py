"""Aliyun Object Storage Service, through its own SDK.

Form uploads: https://www.alibabacloud.com/help/en/oss/developer-reference/postobject
"""

import base64
import hashlib
import hmac
import json
import shutil
from datetime import UTC, datetime, timedelta
from functools import cached_property
from tempfile import SpooledTemporaryFile
from typing import Any, cast

import oss2
from django.core.files.base import File
from django.core.files.storage import Storage as DjangoStorage

from genpulse.config import config
from media.storages import UploadForm


class Storage(DjangoStorage):
    failures = (oss2.exceptions.OssError,)

    @cached_property
    def bucket(self) -> Any:
        auth = oss2.Auth(config.oss_access_key, config.oss_secret_key)
        return oss2.Bucket(auth, config.oss_endpoint, config.oss_bucket, connect_timeout=10)

    @cached_property
    def public_bucket(self) -> Any:
        """The bucket as browsers see it: under the operator's own domain if there is one."""
        if not config.oss_public_domain:
            return self.bucket
        return oss2.Bucket(
            self.bucket.auth, config.oss_public_domain, config.oss_bucket, is_cname=True
        )

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name  # keys are unique already, and raw results are meant to be replaced

    def _open(self, name: str, mode: str = "rb") -> "File[bytes]":
        spool = SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - the caller closes it
        try:
            shutil.copyfileobj(self.bucket.get_object(name), spool)
        except BaseException as error:
            spool.close()
            if isinstance(error, oss2.exceptions.NoSuchKey):
                raise FileNotFoundError(name) from error
            raise
        spool.seek(0)
        return File(cast("Any", spool), name=name)

    def _save(self, name: str, content: "File[bytes]") -> str:
        content_type = getattr(content, "content_type", "application/octet-stream")
        self.bucket.put_object(name, content.file, headers={"Content-Type": content_type})
        return name

    def delete(self, name: str) -> None:
        self.bucket.delete_object(name)

    def exists(self, name: str) -> bool:
        return bool(self.bucket.object_exists(name))

    def size(self, name: str) -> int:
        return int(self.bucket.head_object(name).content_length)

    def move(self, source: str, target: str) -> None:
        if self.exists(target):
            raise FileExistsError(target)
        try:
            self.bucket.copy_object(config.oss_bucket, source, target)
        except oss2.exceptions.NoSuchKey as error:
            raise FileNotFoundError(source) from error
        self.delete(source)

    def public_url(self, key: str, ttl: int, content_type: str, disposition: str) -> str:
        overrides = {
            "response-content-type": content_type,
            "response-content-disposition": disposition,
        }
        return str(self.public_bucket.sign_url("GET", key, ttl, params=overrides, slash_safe=True))

    def upload_form(self, key: str, size: int, content_type: str, ttl: int) -> UploadForm:
        policy = base64.b64encode(json.dumps(self._policy(key, size, content_type, ttl)).encode())
        # HMAC-SHA1 is what PostObject signature version 1 asks for.
        digest = hmac.new(config.oss_secret_key.encode(), policy, hashlib.sha1).digest()
        fields = {
            "key": key,
            "Content-Type": content_type,
            "OSSAccessKeyId": config.oss_access_key,
            "policy": policy.decode(),
            "Signature": base64.b64encode(digest).decode(),
        }
        # The SDK alone knows whether the bucket is in the host or in the path.
        signed = str(self.public_bucket.sign_url("GET", key, ttl, slash_safe=True))
        return UploadForm(url=signed.partition("?")[0].removesuffix(key), fields=fields)

    def _policy(self, key: str, size: int, content_type: str, ttl: int) -> dict[str, Any]:
        until = datetime.now(UTC) + timedelta(seconds=ttl)
        return {
            "expiration": f"{until:%Y-%m-%dT%H:%M:%S.000Z}",
            "conditions": [
                {"bucket": config.oss_bucket},
                ["eq", "$key", key],
                ["eq", "$Content-Type", content_type],
                ["content-length-range", 0, size],
            ],
        }
