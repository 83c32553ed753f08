"""S3 and everything that speaks it, through django-storages."""

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage

from genpulse.config import config
from media.storages import UploadForm


class Storage(S3Storage):  # type: ignore[misc]  # django-storages is published without types
    failures = (BotoCoreError, Boto3Error, ClientError)

    def __init__(self) -> None:
        super().__init__(
            access_key=config.s3_access_key or None,
            secret_key=config.s3_secret_key or None,
            bucket_name=config.s3_bucket_name,
            endpoint_url=config.s3_endpoint_url or None,
            region_name=config.s3_region_name or None,
            # No checksum trailers: half of the servers that speak S3 do not know them.
            client_config=Config(
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=10,
                retries={"mode": "standard", "total_max_attempts": 3},
            ),
            transfer_config=TransferConfig(use_threads=False),
            max_memory_size=1 << 20,
            file_overwrite=True,
            default_acl=None,
        )

    def move(self, source: str, target: str) -> None:
        if self.exists(target):
            raise FileExistsError(target)
        try:
            self.bucket.Object(target).copy_from(
                CopySource={"Bucket": self.bucket_name, "Key": source}
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise FileNotFoundError(source) from error
            raise
        self.delete(source)

    def public_url(self, key: str, ttl: int, content_type: str, disposition: str) -> str:
        overrides = {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
        }
        return str(self.url(key, parameters=overrides, expire=ttl))

    def upload_form(self, key: str, size: int, content_type: str, ttl: int) -> UploadForm:
        form = self.connection.meta.client.generate_presigned_post(
            self.bucket_name,
            key,
            Fields={"Content-Type": content_type},
            Conditions=[{"Content-Type": content_type}, ["content-length-range", 0, size]],
            ExpiresIn=ttl,
        )
        return UploadForm(url=form["url"], fields=form["fields"])
