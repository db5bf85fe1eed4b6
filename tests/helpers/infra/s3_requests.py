"""What was asked of the local object store, in IAM's words."""

from urllib.parse import parse_qs, urlsplit

S3 = "arn:aws:s3:::"
# (method, "bucket" or "object", the query's word or ""): the action that IAM checks.
ACTIONS = {
    ("GET", "bucket", "list-type"): "s3:ListBucket",
    ("HEAD", "bucket", ""): "s3:ListBucket",
    ("POST", "bucket", "delete"): "s3:DeleteObject",
    ("GET", "object", ""): "s3:GetObject",
    ("HEAD", "object", ""): "s3:GetObject",
    ("PUT", "object", ""): "s3:PutObject",
    ("POST", "object", "uploads"): "s3:PutObject",
    ("PUT", "object", "uploadId"): "s3:PutObject",
    ("POST", "object", "uploadId"): "s3:PutObject",
    ("DELETE", "object", ""): "s3:DeleteObject",
    ("DELETE", "object", "uploadId"): "s3:AbortMultipartUpload",
}
WORDS = {word for _, _, word in ACTIONS if word} | {"policy", "acl", "versioning", "lifecycle", "versions", "tagging"}


def action(method: str, path: str) -> tuple[str, str]:
    """Return the action and the resource's ARN of one request in path style; an unknown one is an error."""
    split = urlsplit(path)
    bucket, _, key = split.path.lstrip("/").partition("/")
    words = [word for word in parse_qs(split.query, keep_blank_values=True) if word in WORDS]
    kind = "object" if key else "bucket"
    name = ACTIONS.get((method, kind, words[0] if words else ""))
    assert name, f"a request that no job should make, or that this table lacks: {method} {path}"
    if kind == "bucket" and name == "s3:DeleteObject":
        return name, f"{S3}{bucket}/*"
    return name, f"{S3}{bucket}/{key}" if key else f"{S3}{bucket}"
