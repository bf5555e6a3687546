"""Buckets in this process, as small as they can be: one that speaks S3, one Google's dialect of it, and one Azure."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.infrastructure.store.fake import _Handler


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


class S3(_Handler):
    """Objects by path; conditional puts, ranges, uploads in parts, a list with a delimiter."""

    def do_PUT(self) -> None:
        data, query = self.given(), self.query
        if "uploadId" in query:
            self.there["parts"][query["uploadId"][0], int(query["partNumber"][0])] = data
            return self.reply(200, ETag='"part"')
        if not self.is_wanted(self.there["objects"].get(self.key)):
            return self.reply(412)
        return self.keep(data)

    def is_wanted(self, old: bytes | None) -> bool:
        """Whether the object is in the state that the request is for."""
        if self.headers.get("If-None-Match") == "*":
            return old is None
        wanted = self.headers.get("If-Match")
        return wanted is None or old is not None and wanted.strip('"') == etag(old)

    def keep(self, data: bytes) -> None:
        self.there["objects"][self.key] = data
        self.reply(200, ETag=f'"{etag(data)}"', **self.told(data))

    def told(self, data: bytes) -> dict[str, str]:
        return {}

    def do_POST(self) -> None:
        query = self.query
        self.given()
        if "uploads" in query:
            body = f"<InitiateMultipartUploadResult><UploadId>{len(self.there['parts'])}x</UploadId>"
            return self.reply(200, f"{body}</InitiateMultipartUploadResult>".encode())
        upload = query["uploadId"][0]
        parts = sorted((number, data) for (name, number), data in self.there["parts"].items() if name == upload)
        self.there["objects"][self.key] = b"".join(data for _, data in parts)
        body = "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
        return self.reply(200, body.encode(), **self.told(self.there["objects"][self.key]))

    def do_GET(self) -> None:
        if "list-type" in self.query:
            return self.listing(self.query.get("prefix", [""])[0])
        if self.key not in self.there["objects"]:
            return self.reply(404)
        data = self.there["objects"][self.key]
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or self.headers.get("x-ms-range") or "")
        start = int(begin[1]) if begin else 0
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if begin else {}
        stamp = {"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": f'"{etag(data)}"', **self.told(data)}
        return self.reply(206 if begin else 200, data[start:], **headers, **stamp,
                          Content_Length=str(len(data) - start))  # fmt: skip

    do_HEAD = do_GET

    def listing(self, prefix: str) -> None:
        body = "".join(f"<CommonPrefixes><Prefix>{name}/</Prefix></CommonPrefixes>" for name in self.below(prefix))
        self.reply(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{body}</ListBucketResult>".encode())

    def below(self, prefix: str) -> list[str]:
        names = [name for name in self.there["objects"] if name.startswith(prefix)]
        return sorted({prefix + name[len(prefix) :].partition("/")[0] for name in names})

    @property
    def there(self) -> dict[str, dict[Any, bytes]]:
        return self.server.fake  # type: ignore[attr-defined,no-any-return]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/bucket/")

    def given(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class Google(S3):
    """The same, but a state is a number: none before there is an object is 0."""

    def is_wanted(self, old: bytes | None) -> bool:
        assert not {"If-Match", "If-None-Match"} & {*self.headers}, "what Google does not heed"
        wanted = self.headers.get("x-goog-if-generation-match")
        return wanted is None or wanted == (self.number(old) if old is not None else "0")

    def told(self, data: bytes) -> dict[str, str]:
        return {"x_goog_generation": self.number(data)}

    def number(self, data: bytes) -> str:
        return str(int(etag(data)[:12], 16) + 1)


class Azure(S3):
    """Blobs: parts are blocks with names, and what is there already is another refusal than what has changed."""

    def do_PUT(self) -> None:
        data, query = self.given(), self.query
        match query.get("comp", [""])[0]:
            case "block":
                self.there["parts"][self.key, query["blockid"][0]] = data
                return self.reply(201)
            case "blocklist":
                names = re.findall(r"<(?:Uncommitted|Latest)>([^<]*)</", data.decode())
                data = b"".join(self.there["parts"][self.key, name] for name in names)
            case _:
                assert self.headers["x-ms-blob-type"] == "BlockBlob"
        if not self.is_wanted(self.there["objects"].get(self.key)):
            return self.reply(409 if self.headers.get("If-None-Match") else 412)
        self.there["objects"][self.key] = data
        return self.reply(201, ETag=f'"{etag(data)}"')

    def do_GET(self) -> None:
        if self.query.get("comp") == ["list"]:
            names = self.below(self.query.get("prefix", [""])[0])
            body = "".join(f"<BlobPrefix><Name>{name}/</Name></BlobPrefix>" for name in names)
            return self.reply(
                200, f"<EnumerationResults><Blobs>{body}</Blobs><NextMarker/></EnumerationResults>".encode()
            )
        return super().do_GET()

    do_HEAD = do_GET


def settings(kind: str, address: str, key: str = "quiet") -> dict[str, str]:
    """The environment in which a bucket of this kind at `address` is found."""
    if kind == "s3":
        return {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "me",
                "AWS_SECRET_ACCESS_KEY": key, "AWS_REGION": "x"}  # fmt: skip
    if kind == "gs":
        account = {"gcs_base_url": address, "disable_oauth": True, "client_email": "", "private_key": "",
                   "private_key_id": ""}  # fmt: skip
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_ALLOW_HTTP": "true"}
    return {"AZURE_STORAGE_ENDPOINT": address, "AZURE_ALLOW_HTTP": "true", "AZURE_STORAGE_ACCOUNT_NAME": "me",
            "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(key.encode()).decode()}  # fmt: skip


KINDS = {"s3": S3, "gs": Google, "az": Azure}
